package netlink

import (
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind/socket/optiontest"
	"glis.dev/glis/internal/testkit"
)

// Every option that the kernel has is in the table.
func TestEveryOptionIsKnown(t *testing.T) {
	testkit.RequireRoot(t)
	like := func() (int, error) {
		return unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	}
	optiontest.Complete(t, Table(), nil, like, unix.SOL_SOCKET, unix.SOL_NETLINK)
}
