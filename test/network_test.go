package test

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/testkit"
)

// criu's methods to hold packets back are both Glis's own, which needs no program:
// clients from outside don't notice.
func TestNetworkLockMethods(t *testing.T) {
	e := glisOnly(t)
	testkit.NoLeaks(t)
	c := testkit.BuildC(t, "targets/echo.c")
	t.Setenv("PATH", "/nonexistent")
	for _, method := range []string{"nftables", "iptables"} {
		t.Run(method, func(t *testing.T) {
			p := testkit.Start(t, testkit.NewDir(t), c)
			clients := dialMany(t, p, "127.0.0.1")
			before := tables(t)
			for range 2 {
				img := testkit.NewDir(t)
				e.Save(t, p.PID, img, "--tcp-established", "--network-lock", method)
				if n := tables(t); n != before+1 {
					t.Errorf("while the server is away there are %d tables of nftables, there were %d", n, before)
				}
				e.Restore(t, img, "--tcp-established", "--network-lock", method)
				awaitMore(t, p.Dir, clients)
			}
			if n := tables(t); n != before {
				t.Errorf("at the end there are %d tables of nftables, there were %d", n, before)
			}
			finish(t, clients)
		})
	}
}

// A restore without a route to a peer says so, and on which interface the connection
// was, before there is a process; with the route the connection goes on.
func TestRouteMissing(t *testing.T) {
	e := glisOnly(t)
	c := testkit.BuildC(t, "targets/echo.c")
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	here, there := testkit.Here(), testkit.NewNet(t)
	here.Up(t, "lo")
	testkit.Veth(t, here, "glis-a", there, "glis-b")
	here.Address(t, "glis-a", "10.97.0.1/24")
	there.Address(t, "glis-b", "10.97.0.2/24")
	there.Address(t, "lo", "10.96.0.2/32")
	here.Route(t, "10.96.0.0/24", "10.97.0.2", true)
	p := testkit.Start(t, testkit.NewDir(t), c, "10.97.0.1")
	port := p.Told(t, "port")
	var conn net.Conn
	var err error
	there.Do(func() {
		from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(10, 96, 0, 2)}}
		conn, err = from.Dial("tcp", net.JoinHostPort("10.97.0.1", port))
	})
	if err != nil {
		t.Fatal(err)
	}
	clients := []*client{talk(t, conn, 64)}
	awaitMore(t, p.Dir, clients)
	img := testkit.NewDir(t)
	e.Save(t, p.PID, img, established...)
	here.Route(t, "10.96.0.0/24", "10.97.0.2", false)
	r := e.Run(t, "restore", "-d", "-D", img, "--tcp-established")
	if want := "no route from 10.97.0.1 (it was on glis-a) to its peer 10.96.0.2"; r.Code == 0 || !strings.Contains(r.Stderr, want) {
		t.Errorf("without a route: exit status %d, %s, want %q", r.Code, r.Stderr, want)
	}
	if err := unix.Kill(p.PID, 0); err != unix.ESRCH {
		t.Errorf("there is a process: %v", err)
	}
	here.Route(t, "10.96.0.0/24", "10.97.0.2", true)
	e.Restore(t, img, established...)
	awaitMore(t, p.Dir, clients)
	finish(t, clients)
}

// A client whose handshake is not over when its server is saved, as the answer to its
// first segment was lost, is not told while nobody is there that this is so: it sends
// that once more, again and again, until it finds the restored listener.
func TestHalfOpen(t *testing.T) {
	halfOpen(t, "10.97.0.1", "10.97.0.2", "10.96.0.2", "10.97.0.9")
}

func TestHalfOpen6(t *testing.T) {
	halfOpen(t, "fd97::1", "fd97::2", "fd96::2", "fd97::9")
}

// halfOpen has a server at one address, and its client in another namespace behind a
// second one, at a third to which packets go to nobody at first.
func halfOpen(t *testing.T, server, gateway, far, nobody string) {
	t.Helper()
	e := glisOnly(t)
	c := testkit.BuildC(t, "targets/echo.c")
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	here, there := testkit.Here(), testkit.NewNet(t)
	here.Up(t, "lo")
	testkit.Veth(t, here, "glis-a", there, "glis-b")
	here.Address(t, "glis-a", server+"/24")
	there.Address(t, "glis-b", gateway+"/24")
	there.Address(t, "lo", far+"/32")
	here.Route(t, far+"/32", nobody, true)
	p := testkit.Start(t, testkit.NewDir(t), c, server)
	text := p.Told(t, "port")
	port, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	if first, err := there.Dial("tcp", net.JoinHostPort(server, text)); err != nil { // the neighbours know each other then
		t.Fatal(err)
	} else if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	syn := connecting(t, there, far, server, port)
	defer unix.Close(syn)
	tries(t, syn, 1)
	img := testkit.NewDir(t)
	e.Save(t, p.PID, img, established...)
	here.Route(t, far+"/32", gateway, true)
	tries(t, syn, 2)
	e.Restore(t, img, established...)
	connected := []unix.PollFd{{Fd: int32(syn), Events: unix.POLLOUT}}
	if n, err := testkit.PollFds(connected, int(testkit.Patience.Milliseconds())); n != 1 || err != nil {
		t.Fatalf("the client is not connected: %d, %v", n, err)
	}
	clients := []*client{talk(t, connOf(t, syn), 64)}
	awaitMore(t, p.Dir, clients)
	finish(t, clients)
}

// connOf is a connection of a descriptor, which stays open.
func connOf(t *testing.T, n int) net.Conn {
	t.Helper()
	d, err := unix.FcntlInt(uintptr(n), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(d), "client")
	defer f.Close()
	conn, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// connecting has a socket in a namespace begin to connect to an address from another.
func connecting(t *testing.T, there *testkit.Net, from, to string, port int) (syn int) {
	t.Helper()
	at := func(ip string, port int) unix.Sockaddr {
		if a := netip.MustParseAddr(ip); a.Is6() {
			return &unix.SockaddrInet6{Addr: a.As16(), Port: port}
		}
		return &unix.SockaddrInet4{Addr: netip.MustParseAddr(ip).As4(), Port: port}
	}
	family, err := unix.AF_INET, error(nil)
	if netip.MustParseAddr(to).Is6() {
		family = unix.AF_INET6
	}
	there.Do(func() {
		syn, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err == nil {
			err = unix.Bind(syn, at(from, 0))
		}
		if err == nil {
			err = unix.Connect(syn, at(to, port))
		}
	})
	if !errors.Is(err, unix.EINPROGRESS) {
		t.Fatal(err)
	}
	return syn
}
