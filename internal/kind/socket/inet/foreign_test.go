package inet

import (
	"errors"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/extra"
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

// A connection that is about to begin keeps no option that was lent for it.
func TestAbroadBegun(t *testing.T) {
	testkit.RequireRoot(t)
	for _, s := range []sort{tcp4, tcp6} {
		d, yes := s.make(t), true
		u := &unseen{sort: s, entry: &extra.SocketEntry{Foreign: &yes}}
		if err := u.abroad(d.Int(), transparent, func() error { return unix.EINPROGRESS }); !errors.Is(err, unix.EINPROGRESS) {
			t.Errorf("%v: error %v", s, err)
		}
		opt := transparent[s.family]
		v, err := unix.GetsockoptInt(d.Int(), opt[0], opt[1])
		must(t, err)
		if v != 0 {
			t.Errorf("%v: option %d of level %d is %d", s, opt[1], opt[0], v)
		}
	}
}
