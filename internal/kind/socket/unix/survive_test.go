package unix

import (
	"testing"

	sys "golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind/socket/optiontest"
	"glis.dev/glis/internal/testkit"
)

// Every option survives, each alone and all together.
func TestEveryOptionSurvives(t *testing.T) {
	testkit.RequireRoot(t)
	for _, typ := range []int{sys.SOCK_STREAM, sys.SOCK_DGRAM, sys.SOCK_SEQPACKET} {
		like := func() (int, error) { return sys.Socket(sys.AF_UNIX, typ|sys.SOCK_CLOEXEC, 0) }
		n := optiontest.Survive(t, optiontest.Sort{Table: Table(), Like: like, Again: again})
		if n < 30 {
			t.Errorf("only %d options were changed", n)
		}
		t.Log(n, "options")
	}
}

// again restores a socket.
func again(t *testing.T, n int) int {
	t.Helper()
	in, err := dumpTree(t, scanned(t, n))
	if err != nil {
		t.Fatal(err)
	}
	sys.Close(n)
	made, err := restored(t, in)
	if err != nil {
		t.Fatal(err)
	}
	n, err = sys.FcntlInt(uintptr(made[0]), sys.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
