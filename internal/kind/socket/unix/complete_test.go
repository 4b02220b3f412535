package unix

import (
	"testing"

	sys "golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind/socket/optiontest"
	"glis.dev/glis/internal/testkit"
)

// Every option that the kernel has is in the table.
func TestEveryOptionIsKnown(t *testing.T) {
	testkit.RequireRoot(t)
	for _, typ := range []int{sys.SOCK_STREAM, sys.SOCK_DGRAM, sys.SOCK_SEQPACKET} {
		like := func() (int, error) { return sys.Socket(sys.AF_UNIX, typ|sys.SOCK_CLOEXEC, 0) }
		optiontest.Named(t, Table(), nil, like)
		optiontest.Complete(t, Table(), nil, like, sys.SOL_SOCKET)
	}
}
