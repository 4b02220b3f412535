package inet

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind/socket/tcp"
)

// abort ends a connection by a reset.
func abort(t testing.TB, d *fd.FD) {
	t.Helper()
	must(t, unix.SetsockoptLinger(d.Int(), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}))
	must(t, d.Close())
}

// What is left of connections that have ended is told as before: first what was
// not read, then the error, then the end.
func TestEnded(t *testing.T) {
	for _, x := range []struct {
		name string
		sort sort
		end  func(t *testing.T) (d *fd.FD, unread int)
		err  unix.Errno
	}{
		{"reset", tcp4, func(t *testing.T) (*fd.FD, int) {
			p := paired(t, tcp4, "127.0.0.1")
			p.send(t, 0, 1000)
			abort(t, p.ends[0])
			p.await(t, 1, tcp.Closed)
			return p.ends[1], 1000
		}, unix.ECONNRESET},
		{"reset of IPv6", tcp6, func(t *testing.T) (*fd.FD, int) {
			p := paired(t, tcp6, "::1")
			p.set(t, 0, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
			abort(t, p.ends[1])
			p.await(t, 0, tcp.Closed)
			return p.ends[0], 0
		}, unix.ECONNRESET},
		{"reset after the end", tcp4, func(t *testing.T) (*fd.FD, int) {
			p := paired(t, tcp4, "127.0.0.1")
			p.send(t, 0, 100)
			must(t, unix.Shutdown(p.ends[0].Int(), unix.SHUT_WR))
			p.await(t, 1, tcp.CloseWait)
			abort(t, p.ends[0])
			p.await(t, 1, tcp.Closed)
			return p.ends[1], 100
		}, unix.EPIPE},
		{"error that was read", tcp4, func(t *testing.T) (*fd.FD, int) {
			p := paired(t, tcp4, "127.0.0.1")
			p.send(t, 0, 100)
			abort(t, p.ends[0])
			p.await(t, 1, tcp.Closed)
			_, err := unix.GetsockoptInt(p.ends[1].Int(), unix.SOL_SOCKET, unix.SO_ERROR)
			must(t, err)
			return p.ends[1], 100
		}, 0},
		{"closed by both", tcp4, func(t *testing.T) (*fd.FD, int) {
			p := paired(t, tcp4, "127.0.0.1")
			p.send(t, 0, 70_000)
			must(t, unix.Shutdown(p.ends[0].Int(), unix.SHUT_WR))
			p.await(t, 1, tcp.CloseWait)
			must(t, unix.Shutdown(p.ends[1].Int(), unix.SHUT_WR))
			p.await(t, 1, tcp.Closed)
			return p.ends[1], 70_000
		}, 0},
		{"refused", tcp4, func(t *testing.T) (*fd.FD, int) {
			l := tcp4.bound(t, "127.0.0.1")
			sa, err := unix.Getsockname(l.Int())
			must(t, err)
			must(t, l.Close())
			d := tcp4.make(t)
			must(t, unix.SetNonblock(d.Int(), true))
			if err := unix.Connect(d.Int(), sa); !errors.Is(err, unix.EINPROGRESS) {
				t.Fatal(err)
			}
			p := &pair{ends: [2]*fd.FD{d, d}}
			p.await(t, 0, tcp.Closed)
			return d, 0
		}, unix.ECONNREFUSED},
	} {
		t.Run(x.name, func(t *testing.T) {
			d, unread := x.end(t)
			x.sort.connected = true
			n := same(t, x.sort, d)[0]
			buf := make([]byte, 100_000)
			if unread > 0 {
				if got, err := unix.Read(n, buf); got != unread || err != nil {
					t.Errorf("read %d bytes, %v, want %d", got, err, unread)
				}
			}
			code, err := unix.GetsockoptInt(n, unix.SOL_SOCKET, unix.SO_ERROR)
			must(t, err)
			if got := unix.Errno(code); got != x.err {
				t.Errorf("error %v, want %v", got, x.err)
			}
			if got, err := unix.Read(n, buf); got != 0 || err != nil {
				t.Errorf("read %d bytes, %v at the end", got, err)
			}
		})
	}
}
