package netlock

import (
	"net"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/testkit"
)

// begun is a socket that is about to connect.
func begun(t *testing.T, to netip.AddrPort) (fd int, own netip.AddrPort) {
	t.Helper()
	family := unix.AF_INET
	var sa unix.Sockaddr = &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: int(to.Port())}
	if to.Addr().Is6() {
		family, sa = unix.AF_INET6, &unix.SockaddrInet6{Addr: to.Addr().As16(), Port: int(to.Port())}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Connect(fd, sa); err != unix.EINPROGRESS {
		t.Fatal(err)
	}
	at, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	switch at := at.(type) {
	case *unix.SockaddrInet4:
		own = netip.AddrPortFrom(netip.AddrFrom4(at.Addr), uint16(at.Port))
	case *unix.SockaddrInet6:
		own = netip.AddrPortFrom(netip.AddrFrom16(at.Addr), uint16(at.Port))
	}
	return fd, own
}

// connects tells whether it is connected within ms.
func connects(t *testing.T, fd, ms int) bool {
	t.Helper()
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	n, err := testkit.PollFds(p, ms)
	if err != nil {
		t.Fatal(err)
	}
	if n > 0 && p[0].Revents != unix.POLLOUT {
		code, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
		t.Fatalf("connect: %v", unix.Errno(code))
	}
	return n > 0
}

// shutCase is a listener, and where who connects to it does so.
type shutCase struct {
	network, listen, to string
	both, prepared      bool
}

// Who begins to connect to a listener is held back and noted; who is connected isn't, nor
// is who connects elsewhere. Nothing stays of it.
func TestShut(t *testing.T) {
	for _, x := range []shutCase{
		{network: "tcp4", listen: "127.0.0.1:0", to: "127.0.0.1"}, {network: "tcp4", listen: "0.0.0.0:0", to: "127.0.0.1", prepared: true},
		{network: "tcp6", listen: "[::1]:0", to: "::1"}, {network: "tcp", listen: "[::]:0", to: "127.0.0.1", both: true}, {network: "tcp", listen: "[::]:0", to: "::1", both: true, prepared: true},
	} {
		t.Run(x.listen+" "+x.to, func(t *testing.T) { checkShut(t, x) })
	}
}

func checkShut(t *testing.T, x shutCase) {
	ownNet(t)
	listen := func() (net.Listener, netip.AddrPort) {
		l, err := net.Listen(x.network, x.listen)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l, l.Addr().(*net.TCPAddr).AddrPort()
	}
	l, at := listen()
	_, elsewhere := listen()
	to := func(at netip.AddrPort) netip.AddrPort {
		return netip.AddrPortFrom(netip.MustParseAddr(x.to), at.Port())
	}
	a, err := net.Dial("tcp", to(at).String())
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()

	lock, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	if x.prepared {
		if err := lock.Prepare("glis-test"); err != nil {
			t.Fatal(err)
		}
	}
	err = lock.Shut("glis-test", []Flow{{Protocol: unix.IPPROTO_TCP, Local: at, Both: x.both}})
	testkit.Lacks(t, "nf_tables with sets", err, unix.EOPNOTSUPP, unix.EPROTONOSUPPORT)
	n, own := begun(t, to(at))
	if connects(t, n, 50) {
		t.Error("who begins to connect gets through")
	}
	if m, _ := begun(t, to(elsewhere)); !connects(t, m, 10_000) {
		t.Error("who connects elsewhere doesn't get through")
	}
	if !passes(t, a, b) || !passes(t, b, a) {
		t.Error("who is connected is held back")
	}
	if flows, err := lock.Comers(); err != nil || !slices.Equal(flows, []Flow{{Protocol: unix.IPPROTO_TCP, Local: to(at), Remote: own}}) {
		t.Errorf("noted are %v, %v, not who comes from %v", flows, err, own)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	if !connects(t, n, 30_000) {
		t.Error("who was held back doesn't get through afterwards")
	}
}
