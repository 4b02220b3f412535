package inet

import (
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind/socket/tcp"
	"glis.dev/glis/internal/testkit"
	"glis.dev/glis/options"
)

// The first segment of a connection, if that is kept, is refused, and not taken; once the
// process has read it, the connection is carried over.
func TestKeptSyn(t *testing.T) {
	testkit.RequireRoot(t)
	o := &options.Dump{}
	o.TCPEstablished = true
	accepted := func(t *testing.T, l *fd.FD) *fd.FD {
		n, _, err := unix.Accept4(l.Int(), unix.SOCK_CLOEXEC)
		return own(t, n, err)
	}
	keeps := func(t *testing.T, defers int) *fd.FD {
		l := tcp4.bound(t, "127.0.0.1")
		must(t, unix.SetsockoptInt(l.Int(), unix.IPPROTO_TCP, unix.TCP_SAVE_SYN, 1))
		must(t, unix.SetsockoptInt(l.Int(), unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, defers))
		must(t, unix.Listen(l.Int(), 1))
		return l
	}
	for name, end := range map[string]bool{"accepted": false, "ended": true} {
		t.Run(name, func(t *testing.T) {
			l := keeps(t, 0)
			c := client(t, tcp4, l.Int())
			d := accepted(t, l)
			if end {
				abort(t, c)
				testkit.Poll(t, "the end of the connection", func() bool { i, err := tcp.Look(d.Int()); return err == nil && i.State == tcp.Closed })
			}
			refused(t, o, d.Int(), "TCP_SAVED_SYN")
			if got, err := unix.GetsockoptString(d.Int(), unix.IPPROTO_TCP, unix.TCP_SAVED_SYN); len(got) == 0 || err != nil {
				t.Errorf("the dump took it: %v", err)
			}
			_, err := dumped(t, o, d.Int())
			must(t, err)
		})
	}
	for name, defers := range map[string]int{"waits": 0, "is waited for": 60} {
		t.Run(name, func(t *testing.T) {
			l := keeps(t, defers)
			client(t, tcp4, l.Int())
			refused(t, o, l.Int(), "TCP_SAVE_SYN")
		})
	}
}
