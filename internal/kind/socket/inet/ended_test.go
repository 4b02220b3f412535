package inet

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind/socket/tcp"
	"glis.dev/glis/internal/testkit"
	"glis.dev/glis/options"
)

// abort ends a connection by a reset.
func abort(t testing.TB, d *fd.FD) {
	t.Helper()
	must(t, unix.SetsockoptLinger(d.Int(), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}))
	must(t, d.Close())
}

// sameEnd is same for one end of a connection that has ended, also if it was only in a
// message.
func sameEnd(t *testing.T, s sort, d *fd.FD) int {
	t.Helper()
	toldAlone(t, &options.Dump{}, d.Int())
	return same(t, s, d)[0]
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
		{"peeked at", tcp4, func(t *testing.T) (*fd.FD, int) {
			p := paired(t, tcp4, "127.0.0.1")
			p.send(t, 0, 1000)
			p.set(t, 1, unix.SOL_SOCKET, unix.SO_PEEK_OFF, 40)
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
		{"refused", tcp4, func(t *testing.T) (*fd.FD, int) { return declined(t, tcp4), 0 }, unix.ECONNREFUSED},
	} {
		t.Run(x.name, func(t *testing.T) {
			d, unread := x.end(t)
			x.sort.connected = true
			n := sameEnd(t, x.sort, d)
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

// declined returns a socket whose connect(2), which it didn't wait for, was refused.
func declined(t *testing.T, s sort) *fd.FD {
	t.Helper()
	ip := map[int]string{unix.AF_INET: "127.0.0.1", unix.AF_INET6: "::1"}[s.family]
	l := s.bound(t, ip)
	sa, err := unix.Getsockname(l.Int())
	must(t, err)
	must(t, l.Close())
	d := s.make(t)
	must(t, unix.SetNonblock(d.Int(), true))
	if err := unix.Connect(d.Int(), sa); !errors.Is(err, unix.EINPROGRESS) {
		t.Fatal(err)
	}
	p := &pair{ends: [2]*fd.FD{d, d}}
	p.await(t, 0, tcp.Closed)
	return d
}

// A program that was told by SO_ERROR that it was refused may go on with the same
// socket: connect(2) says that the first try has failed, and the next one begins
// anew. It may not have been told, or may have been by connect(2) itself.
func TestRefusedOnce(t *testing.T) {
	again := func(t *testing.T, d int, to unix.Sockaddr) (said []error) {
		t.Helper()
		for range 2 {
			said = append(said, unix.Connect(d, to))
		}
		return said
	}
	tell := func(t *testing.T, d int) {
		t.Helper()
		if code, err := unix.GetsockoptInt(d, unix.SOL_SOCKET, unix.SO_ERROR); unix.Errno(code) != unix.ECONNREFUSED || err != nil {
			t.Fatal(code, err)
		}
	}
	for _, s := range []sort{tcp4, tcp6} {
		for name, told := range map[string]func(t *testing.T, d int){"": func(*testing.T, int) {}, ", and told": tell} {
			t.Run(fmt.Sprint("family ", s.family, name), func(t *testing.T) {
				ip := map[int]string{unix.AF_INET: "127.0.0.1", unix.AF_INET6: "::1"}[s.family]
				l := s.bound(t, ip)
				must(t, unix.Listen(l.Int(), 4))
				to, err := unix.Getsockname(l.Int())
				must(t, err)
				d, e := declined(t, s), declined(t, s)
				told(t, d.Int())
				told(t, e.Int())
				want := again(t, e.Int(), to)
				if !errors.Is(want[1], unix.EINPROGRESS) {
					t.Fatalf("natively connect says %v", want)
				}
				s.connected = true
				if got := again(t, sameEnd(t, s, d), to); !slices.Equal(got, want) {
					t.Errorf("connect says %v, want %v", got, want)
				}
			})
		}
	}
}

// A port that connect(2) or accept(2) gave a socket is free when its connection has
// ended, and one that it was bound to is not. What its address is it tells all the same.
func TestEndedPort(t *testing.T) {
	testkit.RequireRoot(t)
	testkit.KernelMemory(t, New().admits())
	ips := map[int]string{unix.AF_INET: "127.0.0.1", unix.AF_INET6: "::1"}
	accepted := func(t *testing.T, s sort) *fd.FD {
		p := paired(t, s, ips[s.family])
		p.send(t, 0, 1000)
		abort(t, p.ends[0])
		p.await(t, 1, tcp.Closed)
		return p.ends[1]
	}
	connected := func(t *testing.T, s sort) *fd.FD {
		p := paired(t, s, ips[s.family])
		must(t, unix.Shutdown(p.ends[1].Int(), unix.SHUT_WR))
		p.await(t, 0, tcp.CloseWait)
		abort(t, p.ends[1])
		p.await(t, 0, tcp.Closed)
		return p.ends[0]
	}
	bound := func(t *testing.T, s sort) *fd.FD {
		l, d := s.bound(t, ips[s.family]), s.bound(t, ips[s.family])
		must(t, unix.Listen(l.Int(), 1))
		sa, err := unix.Getsockname(l.Int())
		must(t, err)
		must(t, unix.Connect(d.Int(), sa))
		must(t, l.Close()) // which resets it
		(&pair{ends: [2]*fd.FD{d, d}}).await(t, 0, tcp.Closed)
		return d
	}
	for name, end := range map[string]func(t *testing.T, s sort) *fd.FD{"accepted": accepted, "connected": connected, "refused": declined, "refused elsewhere": declinedApart, "bound": bound} {
		for _, s := range []sort{tcp4, tcp6} {
			t.Run(name+"/"+s.String(), func(t *testing.T) {
				d := end(t, s)
				sa, err := unix.Getsockname(d.Int())
				must(t, err)
				want := bindTo(t, s, sa)
				s.connected = true
				n := sameEnd(t, s, d)
				must(t, d.Close())
				if level, opt := hopsOption(s); name == "connected" {
					if hops, err := unix.GetsockoptInt(n, level, opt); hops != 1 || err != nil {
						t.Errorf("what came had %d hops to go, %v", hops, err)
					}
				}
				for range 2 { // generations
					if now, err := unix.Getsockname(n); err != nil || decode(now) != decode(sa) {
						t.Errorf("its address is %v, %v, not %v", now, err, decode(sa))
					}
					if got := bindTo(t, s, sa); !errors.Is(got, want) {
						t.Errorf("to bind another one to its port: %v, want %v", got, want)
					}
					n = sameEnd(t, s, own(t, n, nil))
				}
			})
		}
	}
}

// hopsOption is the option that tells how far the segment that made a connection might have gone.
func hopsOption(s sort) (level, opt int) {
	if s.family == unix.AF_INET6 {
		return unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS
	}
	return unix.IPPROTO_IP, unix.IP_MULTICAST_TTL
}

// declinedElsewhere is declined of a socket that is bound to an address, without a port, that
// routing would not have chosen.
func declinedElsewhere(t *testing.T, s sort) *fd.FD {
	t.Helper()
	d := s.make(t)
	ip := map[int]string{unix.AF_INET: "127.0.0.2", unix.AF_INET6: "::ffff:127.0.0.2"}[s.family]
	must(t, unix.Bind(d.Int(), address{netip.MustParseAddr(ip), 0}.sockaddr(s.family, 0)))
	l := tcp4.bound(t, "127.0.0.1")
	sa, err := unix.Getsockname(l.Int())
	must(t, err)
	must(t, l.Close())
	peer := decode(sa)
	if s.family == unix.AF_INET6 {
		peer.ip = netip.MustParseAddr("::ffff:127.0.0.1")
	}
	must(t, unix.SetNonblock(d.Int(), true))
	if err := unix.Connect(d.Int(), peer.sockaddr(s.family, 0)); !errors.Is(err, unix.EINPROGRESS) {
		t.Fatal(err)
	}
	(&pair{ends: [2]*fd.FD{d, d}}).await(t, 0, tcp.Closed)
	return d
}

// declinedApart is declinedElsewhere with a port of which no connection of another address
// is left (TIME_WAIT), as of earlier tests: connect(2) gives no socket such a port once more.
func declinedApart(t *testing.T, s sort) *fd.FD {
	t.Helper()
	for range 1000 {
		d := declinedElsewhere(t, s)
		sa, err := unix.Getsockname(d.Int())
		must(t, err)
		everywhere := address{netip.IPv6Unspecified(), decode(sa).port}
		if bindTo(t, tcp6, everywhere.sockaddr(unix.AF_INET6, 0)) == nil {
			return d
		}
	}
	t.Fatal("connections are left of every port")
	return nil
}

// bindTo tells whether another socket can be bound to an address.
func bindTo(t *testing.T, s sort, sa unix.Sockaddr) error {
	t.Helper()
	d := s.make(t)
	defer d.Close()
	return unix.Bind(d.Int(), sa)
}
