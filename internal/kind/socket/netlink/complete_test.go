package netlink

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
	like := func() (int, error) {
		return unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	}
	optiontest.Named(t, Table(), nil, like)
	optiontest.Complete(t, Table(), nil, like, unix.SOL_SOCKET, unix.SOL_NETLINK)
}

// Every option survives, each alone and all together.
func TestEveryOptionSurvives(t *testing.T) {
	testkit.RequireRoot(t)
	for _, typ := range []int{unix.SOCK_RAW, unix.SOCK_DGRAM} {
		like := func() (int, error) { return unix.Socket(unix.AF_NETLINK, typ|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE) }
		n := optiontest.Survive(t, optiontest.Sort{Table: Table(), Like: like, Again: optiontest.Again(t, func() kind.File { return New() })})
		if n < 40 {
			t.Errorf("only %d options were changed", n)
		}
		t.Log(n, "options")
	}
}
