package packet

import (
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind/socket/optiontest"
	"glis.dev/glis/internal/testkit"
)

// Every option that the kernel has is in the table.
func TestEveryOptionIsKnown(t *testing.T) {
	testkit.RequireRoot(t)
	like := func() (int, error) { return unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0) }
	optiontest.Complete(t, Table(), nil, like, unix.SOL_SOCKET, unix.SOL_PACKET)
}
