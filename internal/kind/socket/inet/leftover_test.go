package inet

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind/socket/tcp"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/sockdiag"
	"glis.dev/glis/internal/testkit"
	"glis.dev/glis/options"
)

// fillUp writes until the peer has no room: what is left stays to be sent.
func fillUp(t *testing.T, d *fd.FD) {
	t.Helper()
	must(t, unix.SetNonblock(d.Int(), true))
	for full := make([]byte, 1<<20); ; {
		if _, err := unix.Write(d.Int(), full); errors.Is(err, unix.EAGAIN) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// connectedTo returns both ends of a connection to a listener.
func connectedTo(t *testing.T, a sort, l int) (near, far *fd.FD) {
	t.Helper()
	near = client(t, a, l)
	n, _, err := unix.Accept4(l, unix.SOCK_CLOEXEC)
	return near, own(t, n, err)
}

// leftovers are what the kernel may bring to its end at a listener's port.
var leftovers = map[string]func(t *testing.T, client, server *fd.FD){
	"TIME_WAIT": func(t *testing.T, client, server *fd.FD) {
		must(t, server.Close())
		must(t, client.Close())
	},
	"orphan": func(t *testing.T, client, server *fd.FD) {
		fillUp(t, server)
		must(t, server.Close())
	},
}

// A listener without SO_REUSEADDR has its port again although connections of its are not
// over for the kernel. It is as it was: the port is nobody else's, and what it
// accepts is like it.
func TestLeftovers(t *testing.T) {
	for name, leave := range leftovers {
		for _, a := range []sort{tcp4, tcp6} {
			t.Run(name+"/"+a.String(), func(t *testing.T) { leftover(t, a, leave) })
		}
	}
}

func leftover(t *testing.T, a sort, leave func(t *testing.T, client, server *fd.FD)) {
	requireShown(t)
	d := a.bound(t, map[int]string{unix.AF_INET: "127.0.0.1", unix.AF_INET6: "::1"}[a.family])
	must(t, unix.Listen(d.Int(), 5))
	sa, err := unix.Getsockname(d.Int())
	must(t, err)
	client, server := connectedTo(t, a, d.Int())
	leave(t, client, server)
	for range 3 { // generations
		in, err := dumped(t, &options.Dump{}, d.Int())
		must(t, err)
		must(t, d.Close())
		n, err := createFirst(t, in)
		must(t, err)
		d = n
		for _, opt := range []int{unix.SO_REUSEADDR, unix.SO_REUSEPORT} {
			if v, err := unix.GetsockoptInt(d.Int(), unix.SOL_SOCKET, opt); err != nil || v != 0 {
				t.Errorf("option %d is %d, %v", opt, v, err)
			}
			if err := listenBeside(t, a, sa, opt); !errors.Is(err, unix.EADDRINUSE) {
				t.Fatalf("another one with option %d could listen there: %v", opt, err)
			}
		}
		if _, err := createFirst(t, in); !errors.Is(err, unix.EADDRINUSE) || !strings.Contains(err.Error(), "another socket has this port") {
			t.Fatalf("a second restore: %v", err)
		}
		client, server := connectedTo(t, a, d.Int())
		if v, err := unix.GetsockoptInt(server.Int(), unix.IPPROTO_TCP, unix.TCP_REPAIR); err != nil || v != 0 {
			t.Errorf("what it accepts has TCP_REPAIR %d, %v", v, err)
		}
		must(t, errors.Join(server.Close(), client.Close()))
	}
}

// A socket that is only bound has its port again, too.
func TestLeftoversBound(t *testing.T) {
	requireShown(t)
	l := tcp4.bound(t, "127.0.0.1")
	must(t, unix.Listen(l.Int(), 5))
	sa, err := unix.Getsockname(l.Int())
	must(t, err)
	d := tcp4.make(t)
	must(t, unix.SetsockoptInt(d.Int(), unix.IPPROTO_TCP, unix.TCP_REPAIR, unix.TCP_REPAIR_ON))
	must(t, unix.Bind(d.Int(), sa))
	must(t, unix.SetsockoptInt(d.Int(), unix.IPPROTO_TCP, unix.TCP_REPAIR, unix.TCP_REPAIR_OFF_NO_WP))
	_, server := connectedTo(t, tcp4, l.Int())
	fillUp(t, server)
	must(t, errors.Join(server.Close(), l.Close()))
	in, err := dumped(t, &options.Dump{}, d.Int())
	must(t, err)
	must(t, d.Close())
	n, err := createFirst(t, in)
	must(t, err)
	if now, err := unix.Getsockname(n.Int()); err != nil || decode(now) != decode(sa) {
		t.Errorf("it is bound to %v, %v", now, err)
	}
}

// Whoever lives at the port keeps it, whatever the kernel has there besides.
func TestLeftoversAndOthers(t *testing.T) {
	requireShown(t)
	d := tcp4.bound(t, "127.0.0.1")
	must(t, unix.Listen(d.Int(), 5))
	client, server := connectedTo(t, tcp4, d.Int())
	_, second := connectedTo(t, tcp4, d.Int())
	fillUp(t, second)
	must(t, second.Close())
	in, err := dumped(t, &options.Dump{}, d.Int())
	must(t, err)
	must(t, d.Close())
	if _, err := createFirst(t, in); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("beside a connection of somebody's: %v", err)
	}
	must(t, errors.Join(client.Close(), server.Close()))
	_, err = createFirst(t, in)
	must(t, err)
}

// Clients that come to a listener as soon as it listens again are in nobody's way, be they
// accepted by nobody yet.
func TestLeftoversAndClients(t *testing.T) {
	requireShown(t)
	d := tcp4.bound(t, "127.0.0.1")
	must(t, unix.Listen(d.Int(), 5))
	sa, err := unix.Getsockname(d.Int())
	must(t, err)
	near, far := connectedTo(t, tcp4, d.Int())
	fillUp(t, far)
	must(t, far.Close())
	client(t, tcp4, d.Int())
	live, left, err := (&node{sort: tcp4}).others(d.Int(), decode(sa))
	if err != nil || live != 0 || left != 1 {
		t.Errorf("%d live there and %d are left, %v; want 0 and 1", live, left, err)
	}
	must(t, near.Close())
}

// requireShown skips where nobody tells whether somebody is only bound to a port.
func requireShown(t *testing.T) {
	t.Helper()
	testkit.Require(t, testkit.Feature{Name: "sock_diag of bound sockets", Since: testkit.Version{Major: 6, Minor: 8}, Probe: func() error {
		shown, err := (&node{sort: tcp4}).showsBound()
		if err == nil && !shown {
			err = errors.New("none is shown")
		}
		return err
	}})
}

// createFirst makes the first of the sockets in images.
func createFirst(t *testing.T, in images) (*fd.FD, error) {
	t.Helper()
	nodes, err := planned(in)
	must(t, err)
	d, err := nodes[0].Create(context.Background(), &plan.Env{Log: slog.New(slog.DiscardHandler)})
	if err == nil {
		t.Cleanup(func() { d.Close() })
	}
	return d, err
}

// listenBeside tries to listen at an address with an option on.
func listenBeside(t *testing.T, a sort, sa unix.Sockaddr, opt int) error {
	t.Helper()
	d := a.make(t)
	defer d.Close()
	must(t, unix.SetsockoptInt(d.Int(), unix.SOL_SOCKET, opt, 1))
	if err := unix.Bind(d.Int(), sa); err != nil {
		return err
	}
	return unix.Listen(d.Int(), 1)
}

// Sockets at other ports are in nobody's way, be they only bound.
func TestEachAt(t *testing.T) {
	var ports [2]uint16
	for i := range ports {
		n, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(n)
		if err := unix.Bind(n, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
			t.Fatal(err)
		}
		sa, err := unix.Getsockname(n)
		if err != nil {
			t.Fatal(err)
		}
		ports[i] = decode(sa).port
	}
	for _, p := range ports {
		err := eachAt(p, 0, func(s *sockdiag.Inet) {
			if s.Src.Port() != p {
				t.Errorf("at port %d there is %v", p, s.Src)
			}
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// What is left of a connection whose restore was killed has not come to the state it was to come
// to; one that waits to be accepted belongs to nobody, too, and is not left.
func TestUnheardIn(t *testing.T) {
	for _, x := range []struct {
		of   int
		left []int
	}{
		{tcp.Established, []int{tcp.FinWait1}},
		{tcp.CloseWait, []int{tcp.FinWait1, tcp.LastAck}},
		{tcp.FinWait1, []int{tcp.FinWait1}},
		{tcp.FinWait2, []int{tcp.FinWait1, tcp.FinWait2}},
		{tcp.Closing, []int{tcp.FinWait1, tcp.Closing}},
		{tcp.LastAck, []int{tcp.FinWait1, tcp.LastAck}},
		{tcp.SynSent, []int{tcp.SynSent, tcp.FinWait1}},
	} {
		n := &node{stream: &tcp.Stream{State: x.of}}
		for state := tcp.Established; state <= tcp.Closing; state++ {
			if got, want := n.unheardIn(state), slices.Contains(x.left, state); got != want {
				t.Errorf("of state %d, left in state %d: %t, want %t", x.of, state, got, want)
			}
		}
	}
}
