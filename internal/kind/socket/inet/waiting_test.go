package inet

import (
	"errors"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/netlock"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/options"
)

// waitingImages are those of a listener at which clients wait, each after it did
// something.
func waitingImages(t *testing.T, acts ...func(c int) error) images {
	t.Helper()
	d := tcp4.bound(t, "127.0.0.1")
	must(t, unix.Listen(d.Int(), len(acts)))
	for _, act := range acts {
		must(t, act(client(t, tcp4, d.Int()).Int()))
	}
	o := &options.Dump{}
	o.TCPEstablished = true
	in, err := dumped(t, o, d.Int())
	if errors.Is(err, kind.ErrUnsupported) {
		t.Skip(err)
	}
	must(t, err)
	holdAll(t, in)
	must(t, d.Close())
	return in
}

// holdAll holds packets of the images' connections back until the test is over.
func holdAll(t *testing.T, in images) {
	t.Helper()
	nodes, err := planned(in)
	must(t, err)
	l, err := netlock.Open()
	must(t, err)
	t.Cleanup(func() { l.Close() })
	if err := l.Hold("glis-test-waiting", nodes[0].(plan.Locked).Flows()); err != nil {
		t.Skip(err)
	}
}

func TestWaiting(t *testing.T) {
	in := waitingImages(t,
		func(c int) error { return unix.Sendmsg(c, []byte("first"), nil, nil, 0) },
		func(c int) error { return unix.Shutdown(c, unix.SHUT_WR) },
		func(c int) error { return unix.Sendmsg(c, []byte("last"), nil, nil, 0) })
	fds := restored(t, in)
	for _, want := range []string{"first", "", "last"} {
		n, _, err := unix.Accept4(fds[1], unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		must(t, err)
		defer unix.Close(n)
		var b [10]byte
		got, err := unix.Read(n, b[:])
		if err != nil || string(b[:got]) != want {
			t.Errorf("read %q, %v, want %q", b[:max(0, got)], err, want)
		}
	}
}

func TestWaitingHostile(t *testing.T) {
	good := waitingImages(t, func(int) error { return nil })
	if _, err := planned(good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(e *extra.WaitingTCP){
		"no address":       func(e *extra.WaitingTCP) { e.Local = nil },
		"long address":     func(e *extra.WaitingTCP) { e.Remote = make([]byte, 17) },
		"two families":     func(e *extra.WaitingTCP) { e.Remote = make([]byte, 16) },
		"other family":     func(e *extra.WaitingTCP) { e.Local, e.Remote = make([]byte, 16), make([]byte, 16) },
		"port":             func(e *extra.WaitingTCP) { e.LocalPort = proto.Uint32(e.GetLocalPort() + 1) },
		"no peer":          func(e *extra.WaitingTCP) { e.RemotePort = new(uint32) },
		"port of peer":     func(e *extra.WaitingTCP) { e.RemotePort = proto.Uint32(1 << 16) },
		"state":            func(e *extra.WaitingTCP) { e.State = proto.Uint32(2) },
		"closed well":      func(e *extra.WaitingTCP) { e.State = proto.Uint32(7) },
		"failed and open":  func(e *extra.WaitingTCP) { e.Error = proto.Uint32(uint32(unix.ECONNRESET)) },
		"stream":           func(e *extra.WaitingTCP) { e.Stream = []byte{1} },
		"empty stream":     func(e *extra.WaitingTCP) { e.Stream = nil },
		"unread":           func(e *extra.WaitingTCP) { e.Unread = []byte{1} },
		"no such listener": func(e *extra.WaitingTCP) { e.Listener = proto.Uint32(2) },
	} {
		in := images{}
		for k, v := range good {
			in[k] = slices.Clone(v)
		}
		b, err := proto.Marshal(good[of(extra.TCPWaiting)][0].Message)
		must(t, err)
		e := &extra.WaitingTCP{}
		must(t, proto.Unmarshal(b, e))
		change(e)
		in[of(extra.TCPWaiting)] = []plan.Entry{{Message: e}}
		if _, err := planned(in); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	// A socket that doesn't listen has no queue.
	bound := entry(1)
	bound.Isk.State = proto.Uint32(closed)
	good[of(image.Files)][0].Message = bound
	if _, err := planned(good); err == nil {
		t.Error("a socket that doesn't listen: no error")
	}
}
