package inet

import (
	"context"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/extra"
	"glis.dev/glis/internal/netlock"
	"glis.dev/glis/internal/testkit"
	"glis.dev/glis/options"
)

// Clients that come after their listener was dumped, and before nobody gets through any
// more, are dumped by the last look: each once, in their order.
func TestLastLook(t *testing.T) {
	d := tcp4.bound(t, "127.0.0.1")
	must(t, unix.Listen(d.Int(), 4))
	o := &options.Dump{}
	o.TCPEstablished = true
	out, k := images{}, New()
	env, f := environment(t, o, out, d.Int())
	var held, listeners []netlock.Flow
	env.Hold = func(some []netlock.Flow) error {
		held = append(held, some...)
		return nil
	}
	come := func(text string) {
		must(t, unix.Sendmsg(client(t, tcp4, d.Int()).Int(), []byte(text), nil, nil, 0))
	}
	env.Shut = func(some []netlock.Flow) error {
		listeners = append(listeners, some...)
		come("last") // just then
		return nil
	}
	come("first")
	if !k.Match(f) {
		t.Fatal("no match")
	}
	_, err := k.Dump(context.Background(), env, f)
	testkit.KernelMemory(t, err)
	come("second")
	must(t, k.LastLook(env))
	at, err := unix.Getsockname(d.Int())
	must(t, err)
	if len(listeners) != 1 || listeners[0].Remote.IsValid() || int(listeners[0].Local.Port()) != at.(*unix.SockaddrInet4).Port {
		t.Errorf("nobody is to get through to %v", listeners)
	}
	var got []string
	for _, e := range out[of(extra.TCPWaiting)] {
		got = append(got, string(e.Message.(*extra.WaitingTCP).GetUnread()))
	}
	if len(got) != 3 || got[0] != "first" || got[1] != "second" || got[2] != "last" {
		t.Errorf("dumped are %q", got)
	}
	if len(held) != 3 {
		t.Errorf("%d connections are held back: %v", len(held), held)
	}
}

// A listener beside another one, of somebody outside of the tree, at the same port is left
// as it is: it isn't known whose clients they are.
func TestShutBesideOthers(t *testing.T) {
	for _, both := range []bool{false, true} {
		a := tcp4.make(t)
		must(t, unix.SetsockoptInt(a.Int(), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1))
		must(t, unix.Bind(a.Int(), &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
		at, err := unix.Getsockname(a.Int())
		must(t, err)
		b := tcp4.make(t)
		must(t, unix.SetsockoptInt(b.Int(), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1))
		must(t, unix.Bind(b.Int(), at))
		must(t, unix.Listen(a.Int(), 1))
		must(t, unix.Listen(b.Int(), 1))
		fds := []int{a.Int()}
		if both {
			fds = append(fds, b.Int())
		}
		k, asked := New(), -1
		env, _ := environment(t, &options.Dump{}, images{}, fds...)
		env.Shut = func(some []netlock.Flow) error {
			asked = len(some)
			return nil
		}
		for _, f := range env.Tree.Files {
			if !k.Match(f) {
				t.Fatal("no match")
			}
			_, err := k.Dump(context.Background(), env, f)
			testkit.KernelMemory(t, err)
		}
		must(t, k.LastLook(env))
		if want := map[bool]int{false: 0, true: 2}[both]; asked != want {
			t.Errorf("both in the tree %v: nobody is to get through to %d of them, want %d", both, asked, want)
		}
	}
}
