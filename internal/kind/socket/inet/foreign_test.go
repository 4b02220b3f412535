package inet

import (
	"errors"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kind/socket/tcp"
	"glis.dev/glis/internal/testkit"
	"glis.dev/glis/options"
)

// What is left of a connection can only be told at an address that is there: without it,
// the dump refuses.
func TestEndedAway(t *testing.T) {
	testkit.RequireRoot(t)
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	must(t, unix.Unshare(unix.CLONE_NEWNET))
	here := testkit.Here()
	here.Up(t, "lo")
	here.Address(t, "lo", "192.0.2.9/32")
	p := paired(t, tcp4, "192.0.2.9")
	abort(t, p.ends[0])
	p.await(t, 1, tcp.Closed)
	_, err := dumped(t, &options.Dump{}, p.ends[1].Int())
	must(t, err)
	here.NoAddress(t, "lo", "192.0.2.9/32")
	_, err = dumped(t, &options.Dump{}, p.ends[1].Int())
	if !errors.Is(err, kind.ErrUnsupported) || !strings.Contains(err.Error(), "and it has not 192.0.2.9") {
		t.Errorf("without its address: %v", err)
	}
}
