package inet

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/testkit"
	"glis.dev/glis/options"
)

// Whether the kernel can put connections back is tried before the freeze, and then
// not again, if and only if a listener is the tree's.
func TestForesee(t *testing.T) {
	testkit.RequireRoot(t)
	d := tcp4.bound(t, "127.0.0.1")
	must(t, unix.Listen(d.Int(), 5))
	o := &options.Dump{}
	o.TCPEstablished = true
	env, f := environment(t, o, images{}, d.Int())
	k, tried, lacking := New(), 0, error(nil)
	k.admits = func() error { tried++; return lacking }
	none := func(map[uint64]bool, func(*scan.File) error) error { return nil }
	must(t, k.Foresee(env, none))
	if tried != 0 {
		t.Errorf("tried %d times for a tree without listeners", tried)
	}
	one := func(asked map[uint64]bool, fn func(*scan.File) error) error {
		if _, known := asked[f.Stat.Ino]; !known {
			t.Errorf("the listener of inode %d is not among %v", f.Stat.Ino, asked)
		}
		return fn(f)
	}
	must(t, k.Foresee(env, one))
	if tried != 1 {
		t.Errorf("tried %d times for a listener", tried)
	}
	lacking = errors.New("lacking")
	must(t, k.Foresee(env, one)) // nobody waits
	client(t, tcp4, d.Int())
	err := k.Foresee(env, one)
	if !errors.Is(err, kind.ErrUnsupported) || !strings.Contains(err.Error(), "lacking") {
		t.Errorf("a client waits: error %v", err)
	}
	o.SkipInFlight = true
	must(t, k.Foresee(env, one))
}

// A client whose first data a listener waits for is not in its queue, and refused
// before the freeze, too.
func TestForeseeDeferred(t *testing.T) {
	testkit.RequireRoot(t)
	d := tcp4.bound(t, "127.0.0.1")
	must(t, unix.Listen(d.Int(), 5))
	must(t, unix.SetsockoptInt(d.Int(), unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 60))
	o := &options.Dump{}
	o.TCPEstablished = true
	env, f := environment(t, o, images{}, d.Int())
	k := New()
	k.admits = func() error { return errors.New("lacking") }
	find := func(_ map[uint64]bool, fn func(*scan.File) error) error { return fn(f) }
	must(t, k.Foresee(env, find)) // nobody waits
	client(t, tcp4, d.Int())
	if err := k.Foresee(env, find); !errors.Is(err, kind.ErrUnsupported) {
		t.Errorf("a client waits: error %v", err)
	}
}

// What a look before the freeze costs: that for listeners, and one try.
func BenchmarkForesee(b *testing.B) {
	for b.Loop() {
		if _, _, err := listeners(); err != nil {
			b.Fatal(err)
		}
	}
}
