package inet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/testkit"
	"glis.dev/glis/options"
)

// A UDP socket that is connected to port 0 of an address, or to no port of it any more,
// hears what it did.
func TestPortless(t *testing.T) {
	aloneInNet(t)
	testkit.Here().Address(t, "lo", "127.0.0.2/32")
	testkit.Here().Address(t, "lo", "fd00::2/128")
	port := uint16(7000)
	lite4, lite6 := sort{family: unix.AF_INET, protocol: unix.IPPROTO_UDPLITE}, sort{family: unix.AF_INET6, protocol: unix.IPPROTO_UDPLITE}
	for _, s := range []sort{udp4, udp6, lite4, lite6} {
		own, other := "127.0.0.1", "127.0.0.2"
		if s.family == unix.AF_INET6 {
			own, other = "::1", "fd00::2"
		}
		to := func(port uint16) func(*testing.T, *fd.FD) {
			return func(t *testing.T, d *fd.FD) {
				must(t, unix.Connect(d.Int(), address{netip.MustParseAddr(own), port}.sockaddr(s.family, 0)))
			}
		}
		for name, do := range map[string]func(*testing.T, *fd.FD){
			"connected": to(0),
			"disconnected": func(t *testing.T, d *fd.FD) {
				to(9)(t, d)
				disconnected(t, d.Int())
			},
			"shut down": func(t *testing.T, d *fd.FD) {
				to(0)(t, d)
				must(t, unix.Shutdown(d.Int(), unix.SHUT_RDWR))
			},
			"unbound": nil,
		} {
			port++
			what := s.String() + " " + name
			d := s.make(t)
			if name == "unbound" {
				to(0)(t, d)
			} else {
				must(t, unix.Bind(d.Int(), address{port: port, ip: unspecified(s)}.sockaddr(s.family, 0)))
				do(t, d)
			}
			before := heardBy(t, s, d.Int())
			in, err := dumped(t, options.NewDump(), d.Int())
			must(t, err)
			if again := heardBy(t, s, d.Int()); again != before {
				t.Errorf("%s: %v by the dump, want %v", what, again, before)
			}
			must(t, d.Close())
			n := restored(t, in)[1]
			if got := heardBy(t, s, n); got != before {
				t.Errorf("%s: %v, want %v", what, got, before)
			}
			if name != "shut down" {
				hearsOf(t, s, n, own, true)
				hearsOf(t, s, n, other, name == "disconnected" && s.family == unix.AF_INET)
			}
		}
	}
}

func unspecified(s sort) netip.Addr {
	if s.family == unix.AF_INET {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// heardBy is what the kernel has of a socket: its address, its state and the one it hears.
func heardBy(t *testing.T, s sort, n int) (out struct {
	at, heard string
	state     uint8
}) {
	t.Helper()
	l := &look{sort: s, kind: New(), fd: fd.New(n)}
	defer l.kind.Close()
	state, ip, err := l.hears()
	must(t, err)
	sa, err := unix.Getsockname(n)
	must(t, err)
	out.at, out.heard, out.state = decode(sa).String(), ip.String(), state
	return out
}

// hearsOf sends a datagram from an address to the socket and sees whether it came.
func hearsOf(t *testing.T, s sort, n int, from string, want bool) {
	t.Helper()
	d := s.make(t)
	must(t, unix.Bind(d.Int(), address{ip: netip.MustParseAddr(from)}.sockaddr(s.family, 0)))
	sa, err := unix.Getsockname(n)
	must(t, err)
	to := address{netip.MustParseAddr(from), decode(sa).port}
	if at := decode(sa).ip; !at.IsUnspecified() {
		to.ip = at
	}
	must(t, unix.Sendto(d.Int(), []byte("hello"), 0, to.sockaddr(s.family, 0)))
	k, _, err := unix.Recvfrom(n, make([]byte, 10), unix.MSG_DONTWAIT)
	if got := err == nil && k == 5; got != want {
		t.Errorf("heard from %s: %v, want %v (%v)", from, got, want, err)
	}
}

// Among many sockets, which are recognized by their memory, it is told from others.
func TestPortlessAmongMany(t *testing.T) {
	aloneInNet(t)
	testkit.Here().Address(t, "lo", "fd00::2/128")
	var fds []int
	for i := range 40 {
		d := udp6.make(t)
		must(t, unix.Bind(d.Int(), address{port: uint16(7000 + i), ip: netip.IPv6Unspecified()}.sockaddr(unix.AF_INET6, 0)))
		fds = append(fds, d.Int())
	}
	peer := func(port uint16) unix.Sockaddr {
		return address{netip.MustParseAddr("fd00::2"), port}.sockaddr(unix.AF_INET6, 0)
	}
	must(t, unix.Connect(fds[20], peer(0)))
	must(t, unix.Connect(fds[30], peer(9)))
	disconnected(t, fds[30])
	in, err := dumped(t, options.NewDump(), fds...)
	must(t, err)
	nodes, err := planned(in)
	must(t, err)
	for _, n := range nodes {
		n := n.(*node)
		wantPeer, wantHeard := n.ID() == 21, n.ID() == 31
		if n.peer.set() != wantPeer || n.few().heard.set() != wantHeard {
			t.Errorf("%d: %v", n.ID(), n)
		}
	}
}

// What a socket got since it was disconnected doesn't keep it from hearing the address alone
// that it was connected to, and stays: an interface, IPV6_V6ONLY, and what waited before.
func TestPortlessSince(t *testing.T) {
	aloneInNet(t)
	testkit.Here().Address(t, "lo", "fd00::2/128")
	testkit.Here().Address(t, "lo", "fe80::7/64")
	lite := sort{family: unix.AF_INET6, protocol: unix.IPPROTO_UDPLITE}
	at := func(ip string, port uint16) address { return address{netip.MustParseAddr(ip), port} }
	port := uint16(7000)
	for _, c := range []struct {
		what string
		sort
		heard        string
		zone         int
		before, then func(*testing.T, *fd.FD)
	}{
		{"interface", udp6, "::1", 0, nil, func(t *testing.T, d *fd.FD) { must(t, socket.BindToDevice(d.Int(), "lo")) }},
		{"link", udp6, "fe80::7", 1, nil, nil},
		{"mapped", udp6, "::ffff:127.0.0.1", 0, nil, nil},
		{"V6ONLY", udp6, "::ffff:127.0.0.1", 0, nil, func(t *testing.T, d *fd.FD) {
			must(t, unix.SetsockoptInt(d.Int(), unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1))
		}},
		{"queue", udp6, "::1", 0, hello, nil},
		{"queue", lite, "::1", 0, hello, nil},
	} {
		port++
		d := c.make(t)
		bind := func() { must(t, unix.Bind(d.Int(), at("::", port).sockaddr(c.family, 0))) }
		if c.before != nil {
			bind()
			c.before(t, d)
		}
		must(t, unix.Connect(d.Int(), at(c.heard, 9).sockaddr(c.family, c.zone)))
		disconnected(t, d.Int())
		if c.then != nil {
			c.then(t, d)
		}
		if c.before == nil {
			bind()
		}
		before := sinceThen(t, c.sort, d.Int())
		in, err := dumped(t, options.NewDump(), d.Int())
		must(t, errors.Join(err, d.Close()))
		if got := sinceThen(t, c.sort, restored(t, in)[1]); got != before {
			t.Errorf("%v, %s: %v, want %v", c.sort, c.what, got, before)
		}
	}
}

// hello has a datagram from elsewhere wait at a socket.
func hello(t *testing.T, d *fd.FD) {
	t.Helper()
	protocol, err := unix.GetsockoptInt(d.Int(), unix.SOL_SOCKET, unix.SO_PROTOCOL)
	must(t, err)
	s := sort{family: unix.AF_INET6, protocol: protocol}
	sa, err := unix.Getsockname(d.Int())
	must(t, err)
	from := s.bound(t, "fd00::2").Int()
	must(t, unix.Sendto(from, []byte("hello"), 0, address{netip.IPv6Loopback(), decode(sa).port}.sockaddr(s.family, 0)))
}

// sinceThen is what heardBy tells, and what a socket has besides.
func sinceThen(t *testing.T, s sort, n int) string {
	t.Helper()
	device, err := unix.GetsockoptString(n, unix.SOL_SOCKET, unix.SO_BINDTODEVICE)
	must(t, err)
	only, err := unix.GetsockoptInt(n, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY)
	must(t, err)
	waits, err := unix.IoctlGetInt(n, unix.SIOCINQ)
	must(t, err)
	return fmt.Sprintf("%v, of interface %q, V6ONLY %d, %d bytes wait", heardBy(t, s, n), device, only, waits)
}

// One that hears an address alone is refused while there is no route to that.
func TestHeardAway(t *testing.T) {
	aloneInNet(t)
	d := udp6.make(t)
	must(t, unix.Connect(d.Int(), address{netip.IPv6Loopback(), discard}.sockaddr(unix.AF_INET6, 0)))
	must(t, linux.Connect(d.Int(), binary.NativeEndian.AppendUint16(nil, unix.AF_UNSPEC)))
	_, err := dumped(t, options.NewDump(), d.Int())
	must(t, err)
	testkit.Here().Down(t, "lo")
	refused(t, options.NewDump(), d.Int(), "no route")
}
