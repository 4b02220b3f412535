package inet

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/kind/socket/tcp"
	"glis.dev/glis/internal/testkit"
	"glis.dev/glis/options"
)

// filter has a socket let packets in, up to a size.
func filter(t *testing.T, own int, size uint32) {
	t.Helper()
	f := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: size}
	must(t, unix.SetsockoptSockFprog(own, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &f}))
}

// choose has a group that shares a port give all connections to one of it.
func choose(t *testing.T, own int, which uint32) {
	t.Helper()
	f := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: which}
	must(t, unix.SetsockoptSockFprog(own, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF, &unix.SockFprog{Len: 1, Filter: &f}))
}

func hasFilter(t *testing.T, own int) bool {
	t.Helper()
	n, err := unix.GetsockoptInt(own, unix.SOL_SOCKET, unix.SO_GET_FILTER)
	if err != nil {
		return true // there is one, of more than the one instruction that has room
	}
	return n != 0
}

// A connection comes to its state, though it lets nothing in, or only what comes from
// as near as can be (RFC 5082, as all do that speak BGP).
func TestDeafConnection(t *testing.T) {
	for _, s := range []sort{tcp4, tcp6} {
		ip, level, ttl, least := "127.0.0.1", unix.IPPROTO_IP, unix.IP_TTL, unix.IP_MINTTL
		if s.family == unix.AF_INET6 {
			ip, level, ttl, least = "::1", unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, unix.IPV6_MINHOPCOUNT
		}
		p := paired(t, s, ip)
		p.notAlone = true
		for i := range p.ends {
			p.set(t, i, level, ttl, 255)
			p.set(t, i, level, least, 255)
		}
		p.send(t, 0, 1000)
		must(t, unix.Shutdown(p.ends[0].Int(), unix.SHUT_WR))
		p.await(t, 1, tcp.CloseWait)
		filter(t, p.ends[1].Int(), 0)
		p.move(t, 1)
		p.await(t, 1, tcp.CloseWait)
		p.drain(t, 1)
		p.ended(t, 1)
		if !hasFilter(t, p.ends[1].Int()) {
			t.Error("the filter is gone")
		}
	}
}

// Clients that wait at a listener come back, though it lets only in what comes from as
// near as can be, or has a filter, which they have, too; and the program that spreads
// the load of those that share its port stays.
func TestDeafListener(t *testing.T) {
	var group []*fd.FD
	a := tcp4.make(t)
	for range 3 {
		must(t, unix.SetsockoptInt(a.Int(), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1))
		at := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
		if len(group) > 0 {
			sa, err := unix.Getsockname(group[0].Int())
			must(t, err)
			at = sa.(*unix.SockaddrInet4)
		}
		must(t, unix.Bind(a.Int(), at))
		must(t, unix.SetsockoptInt(a.Int(), unix.IPPROTO_IP, unix.IP_MINTTL, 255))
		filter(t, a.Int(), 1<<16)
		must(t, unix.Listen(a.Int(), 5))
		group, a = append(group, a), tcp4.make(t)
	}
	choose(t, group[0].Int(), 1)
	near := func(at int) {
		sa, err := unix.Getsockname(at)
		must(t, err)
		c := tcp4.make(t)
		must(t, unix.SetsockoptInt(c.Int(), unix.IPPROTO_IP, unix.IP_TTL, 255))
		must(t, unix.Connect(c.Int(), sa))
	}
	for _, l := range group {
		must(t, unix.SetsockoptInt(l.Int(), unix.IPPROTO_IP, unix.IP_TTL, 255))
	}
	near(group[1].Int())
	o := &options.Dump{}
	o.TCPEstablished = true
	in, err := dumped(t, o, group[0].Int(), group[1].Int(), group[2].Int())
	testkit.KernelMemory(t, err)
	holdAll(t, in)
	for _, l := range group {
		must(t, l.Close())
	}
	fds := restored(t, in)
	n, _, err := unix.Accept4(fds[2], unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	must(t, err)
	defer unix.Close(n)
	if !hasFilter(t, n) || !hasFilter(t, fds[2]) {
		t.Error("a filter is gone")
	}
	for range 4 {
		near(fds[1])
	}
	for range 4 {
		n, _, err := unix.Accept4(fds[2], unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if err != nil {
			t.Fatalf("the program is gone that spreads the load: %v", err)
		}
		must(t, unix.Close(n))
	}
}

// A client that waits belongs to the interface that its listener had when it came, and
// the listener to the one that it has got since.
func TestWaitingOtherInterface(t *testing.T) {
	devices := map[bool]string{true: "lo"}
	for _, s := range []sort{tcp4, tcp6} {
		for _, late := range []bool{true, false} {
			ip := map[sort]string{tcp4: "127.0.0.1", tcp6: "::1"}[s]
			l := s.bound(t, ip)
			bind := func(d string) { must(t, unix.SetsockoptString(l.Int(), unix.SOL_SOCKET, unix.SO_BINDTODEVICE, d)) }
			bind(devices[!late])
			must(t, unix.Listen(l.Int(), 5))
			silent, c := client(t, s, l.Int()), client(t, s, l.Int())
			_, err := unix.Write(c.Int(), []byte("before"))
			must(t, err)
			bind(devices[late])
			o := &options.Dump{}
			o.TCPEstablished = true
			in, err := dumped(t, o, l.Int())
			testkit.KernelMemory(t, err)
			let := holdAll(t, in)
			must(t, l.Close())
			fds := restored(t, in)
			let()
			if got := deviceOf(t, fds[1]); got != devices[late] {
				t.Errorf("the listener is at %q, not %q", got, devices[late])
			}
			for _, want := range []string{"", "before"} {
				n, _, err := unix.Accept4(fds[1], unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
				must(t, err)
				if got := deviceOf(t, n); got != devices[!late] {
					t.Errorf("the client is at %q, not %q", got, devices[!late])
				}
				var b [20]byte
				if got, _ := unix.Read(n, b[:]); string(b[:max(0, got)]) != want {
					t.Errorf("read %q, not %q", b[:max(0, got)], want)
				}
				must(t, unix.Close(n))
			}
			must(t, errors.Join(silent.Close(), c.Close()))
		}
	}
}

// deviceOf is the interface that a socket is bound to, "" if to none.
func deviceOf(t *testing.T, own int) string {
	t.Helper()
	a, err := socket.ReadAttachment(own, false)
	must(t, err)
	return a.Device
}

// Clients that could not be put back are refused while the tree is still there.
func TestWaitingRefused(t *testing.T) {
	_, unknown := New().memory()
	testkit.KernelMemory(t, unknown)
	o := &options.Dump{}
	o.TCPEstablished = true
	l := tcp4.bound(t, "127.0.0.1")
	must(t, unix.Listen(l.Int(), 5))
	client(t, tcp4, l.Int())
	filter(t, l.Int(), 1<<16)
	refused(t, o, l.Int(), "another filter since it came")

	l = tcp6.bound(t, "::1")
	must(t, unix.Listen(l.Int(), 5))
	sa, err := unix.Getsockname(l.Int())
	must(t, err)
	c := tcp6.make(t)
	must(t, unix.SetsockoptInt(c.Int(), unix.IPPROTO_TCP, unix.TCP_MAXSEG, 600))
	must(t, unix.Connect(c.Int(), sa))
	refused(t, o, l.Int(), "no more than 600 bytes")
}

// A socket may belong to an interface that has not the address it was bound to before.
func TestBoundAside(t *testing.T) {
	wired(t)
	for _, s := range []sort{udp6, tcp6} {
		d := s.bound(t, "::1")
		must(t, unix.SetsockoptString(d.Int(), unix.SOL_SOCKET, unix.SO_BINDTODEVICE, "glis-a"))
		if s == tcp6 {
			must(t, unix.Listen(d.Int(), 5))
		}
		before := see(t, s, d.Int())
		in, err := dumped(t, &options.Dump{}, d.Int())
		must(t, err)
		must(t, d.Close())
		if diff := diff(s, before, see(t, s, restored(t, in)[1])); diff != "" {
			t.Error(diff)
		}
	}
}
