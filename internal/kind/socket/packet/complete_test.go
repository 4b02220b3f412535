package packet

import (
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kind/socket/optiontest"
	"glis.dev/glis/internal/testkit"
)

// Every option that the kernel has is in the table.
func TestEveryOptionIsKnown(t *testing.T) {
	testkit.RequireRoot(t)
	like := func(typ int) func() (int, error) {
		return func() (int, error) { return unix.Socket(unix.AF_PACKET, typ|unix.SOCK_CLOEXEC, 0) }
	}
	for _, typ := range []int{unix.SOCK_RAW, unix.SOCK_DGRAM, sockPacket} {
		optiontest.Named(t, tableOf(typ), nil, like(typ))
	}
	optiontest.Complete(t, Table(), nil, like(unix.SOCK_RAW), unix.SOL_SOCKET, unix.SOL_PACKET)
	optiontest.Known(t, Table(), nil, like(unix.SOCK_DGRAM), unix.SOL_SOCKET, unix.SOL_PACKET) // which has no PACKET_VNET_HDR
	optiontest.Complete(t, tableOf(sockPacket), nil, like(sockPacket), unix.SOL_SOCKET, unix.SOL_PACKET)
}

// Every option survives, each alone and all together.
func TestEveryOptionSurvives(t *testing.T) {
	testkit.RequireRoot(t)
	fixed := map[int]map[string]string{
		unix.SOCK_DGRAM: {"PACKET_VNET_HDR": "of SOCK_RAW only", "PACKET_VNET_HDR_SZ": "of SOCK_RAW only"},
	}
	for _, typ := range []int{unix.SOCK_RAW, unix.SOCK_DGRAM, sockPacket} {
		like := func() (int, error) { return unix.Socket(unix.AF_PACKET, typ|unix.SOCK_CLOEXEC, 0) }
		n := optiontest.Survive(t, optiontest.Sort{Table: tableOf(typ), Like: like, Fixed: fixed[typ], Again: optiontest.Again(t, func() kind.File { return New() })})
		if n < 30 {
			t.Errorf("only %d options were changed", n)
		}
		t.Log(n, "options")
	}
}
