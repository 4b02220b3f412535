package netlock

import (
	"errors"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// datagramSocket is one of UDP or UDP-Lite, bound to an address with a port of the
// kernel's choice; it returns where it is.
func datagramSocket(t *testing.T, protocol int, at string, port uint16, reuse bool) (fd int, where netip.AddrPort) {
	t.Helper()
	ip := netip.MustParseAddr(at)
	family := unix.AF_INET
	var sa unix.Sockaddr = &unix.SockaddrInet4{Port: int(port)}
	if ip.Is6() {
		family, sa = unix.AF_INET6, &unix.SockaddrInet6{Addr: ip.As16(), Port: int(port)}
	} else {
		sa = &unix.SockaddrInet4{Addr: ip.As4(), Port: int(port)}
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, protocol)
	if errors.Is(err, unix.EPROTONOSUPPORT) && protocol == unix.IPPROTO_UDPLITE {
		t.Skip("no UDP-Lite, which kernels after Linux 7.0 don't have")
	}
	if err != nil {
		t.Fatal(err)
	}
	if reuse {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Bind(fd, sa); err != nil {
		t.Fatal(err)
	}
	sa, err = unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		where = netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		where = netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))
	}
	return fd, where
}

// refusedAt tells whether who sends to an address is told that nobody is there.
func refusedAt(t *testing.T, protocol int, at netip.AddrPort) bool {
	t.Helper()
	from := "127.0.0.1"
	var to unix.Sockaddr = &unix.SockaddrInet6{Addr: at.Addr().As16(), Port: int(at.Port())}
	if at.Addr().Is6() {
		from = "::1"
	} else {
		to = &unix.SockaddrInet4{Addr: at.Addr().As4(), Port: int(at.Port())}
	}
	c, _ := datagramSocket(t, protocol, from, 0, false)
	defer unix.Close(c)
	if err := unix.Connect(c, to); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Write(c, []byte{1}); err != nil {
		t.Fatal(err)
	}
	n, err := unix.GetsockoptInt(c, unix.SOL_SOCKET, unix.SO_ERROR) // the answer came before write(2) returned
	if err != nil {
		t.Fatal(err)
	}
	return unix.Errno(n) == unix.ECONNREFUSED
}

func TestPortsKept(t *testing.T) {
	for _, x := range []struct {
		name, at, to string
		protocol     int
	}{
		{"UDP", "127.0.0.1", "127.0.0.1", unix.IPPROTO_UDP},
		{"UDP over IPv6", "::1", "::1", unix.IPPROTO_UDP},
		{"everywhere", "0.0.0.0", "127.0.0.1", unix.IPPROTO_UDP},
		{"everywhere, IPv6", "::", "::1", unix.IPPROTO_UDP},
		{"everywhere, both", "::", "127.0.0.1", unix.IPPROTO_UDP},
		{"UDP-Lite", "127.0.0.1", "127.0.0.1", unix.IPPROTO_UDPLITE},
	} {
		t.Run(x.name, func(t *testing.T) {
			ownNet(t)
			s, at := datagramSocket(t, x.protocol, x.at, 0, false)
			unix.Close(s)
			to := netip.AddrPortFrom(netip.MustParseAddr(x.to), at.Port())
			other := netip.AddrPortFrom(to.Addr(), at.Port()^1)
			if !refusedAt(t, x.protocol, to) {
				t.Fatal("nobody is there, and nobody is told so")
			}
			flows := []Flow{{Protocol: uint8(x.protocol), Local: at, Both: x.name == "everywhere, both"}}
			if err := Keep("CRIU-test", flows); err != nil {
				t.Fatal(err)
			}
			if refusedAt(t, x.protocol, to) {
				t.Error("who sends is told that nobody is there")
			}
			if !refusedAt(t, x.protocol, other) {
				t.Error("another port is locked, too")
			}
			if err := Unlock("CRIU-test"); err != nil {
				t.Fatal(err)
			}
			if !refusedAt(t, x.protocol, to) {
				t.Error("the lock stays")
			}
		})
	}
}

// Who has the port, too, gets what comes, as before.
func TestPortsOfOthers(t *testing.T) {
	ownNet(t)
	s, at := datagramSocket(t, unix.IPPROTO_UDP, "127.0.0.1", 0, true)
	if err := Keep("CRIU-test", []Flow{{Protocol: unix.IPPROTO_UDP, Local: at, Shared: true}}); err != nil {
		t.Fatal(err)
	}
	got := func() bool {
		var b [1]byte
		_, err := unix.Read(s, b[:])
		return err == nil
	}
	if refusedAt(t, unix.IPPROTO_UDP, at) || !got() {
		t.Error("what came to a socket that is there was dropped")
	}
	unix.Close(s)
	if refusedAt(t, unix.IPPROTO_UDP, at) {
		t.Error("who sends is told that nobody is there")
	}
	// Without a way to find sockets, only ports that nobody else can have are locked.
	if left := alone([]Flow{{Local: at, Shared: true}, {Local: at}}); len(left) != 1 || left[0].Shared {
		t.Errorf("%v", left)
	}
	sock, err := open()
	if err != nil {
		t.Fatal(err)
	}
	defer sock.Close()
	if err := exchange(sock.Int(), keptBatch("CRIU-plain", []Flow{{Protocol: unix.IPPROTO_UDP, Local: at}}, false)); err != nil {
		t.Fatal(err)
	}
}

func BenchmarkKeepPorts(b *testing.B) {
	var flows []Flow
	for i := range 1 {
		flows = append(flows, Flow{Protocol: unix.IPPROTO_UDP, Local: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(1+i))})
	}
	for b.Loop() {
		if err := Keep("CRIU-bench", flows); err != nil {
			b.Fatal(err)
		}
		if err := Unlock("CRIU-bench"); err != nil {
			b.Fatal(err)
		}
	}
}
