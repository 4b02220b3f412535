package inet

import (
	"net"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/netlock"
	"glis.dev/glis/internal/testkit"
	"glis.dev/glis/options"
)

// awaitBackoff waits until the times after which a connection sends again have been
// doubled in a number of which right is true.
func awaitBackoff(t *testing.T, c *fd.FD, right func(n uint8) bool) {
	t.Helper()
	for end := time.Now().Add(testkit.Patience); ; time.Sleep(time.Millisecond) {
		info, err := unix.GetsockoptTCPInfo(c.Int(), unix.IPPROTO_TCP, unix.TCP_INFO)
		must(t, err)
		if right(info.Backoff) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("it has doubled %d times", info.Backoff)
		}
	}
}

// A peer that gets no answer waits twice as long each time. Told that nobody could be
// reached, it takes that back, and its connection goes on as before.
func TestRouse(t *testing.T) {
	testkit.RequireRoot(t)
	here, there := testkit.Here(), testkit.NewNet(t)
	testkit.Veth(t, here, "glis-a", there, "glis-b")
	here.Address(t, "glis-a", "10.77.0.1/24")
	there.Address(t, "glis-b", "10.77.0.2/24")
	here.Address(t, "glis-a", "fd77::1/64")
	there.Address(t, "glis-b", "fd77::2/64")
	for _, x := range []struct {
		sort sort
		ip   string
	}{{tcp4, "10.77.0.1"}, {tcp6, "fd77::1"}, {tcp6, "::ffff:10.77.0.1"}} {
		t.Run(x.ip, func(t *testing.T) { rouse(t, there, x.sort, x.ip) })
	}
}

func rouse(t *testing.T, there *testkit.Net, s sort, ip string) {
	l := s.bound(t, ip)
	must(t, unix.Listen(l.Int(), 5))
	sa, err := unix.Getsockname(l.Int())
	must(t, err)
	conn, err := there.Dial("tcp", net.JoinHostPort(decode(sa).ip.Unmap().String(), strconv.Itoa(int(decode(sa).port))))
	must(t, err)
	defer conn.Close()
	f, err := conn.(*net.TCPConn).File()
	must(t, err)
	defer f.Close()
	number, err := unix.Dup(int(f.Fd()))
	peer := own(t, number, err)
	a, _, err := unix.Accept4(l.Int(), unix.SOCK_CLOEXEC)
	server := own(t, a, err)
	o := &options.Dump{}
	o.TCPEstablished = true
	in, err := dumped(t, o, server.Int())
	must(t, err)
	nodes, err := planned(in)
	must(t, err)
	lock, err := netlock.Open()
	must(t, err)
	defer lock.Close()
	if err := lock.Hold("glis-test-rouse", nodes[0].(*node).Flows(nil)); err != nil {
		lacksRules(t, err)
	}
	_, err = conn.Write([]byte("x"))
	must(t, err)
	awaitBackoff(t, peer, func(n uint8) bool { return n >= 2 })
	must(t, nodes[0].(*node).rouse())
	awaitBackoff(t, peer, func(n uint8) bool { return n == 0 })
	must(t, lock.Release())
	got := make([]byte, 2)
	if n, err := unix.Read(server.Int(), got); n != 1 || err != nil || got[0] != 'x' {
		t.Errorf("got %q, %v", got[:max(n, 0)], err)
	}
	if code, err := unix.GetsockoptInt(peer.Int(), unix.SOL_SOCKET, unix.SO_ERROR); code != 0 || err != nil {
		t.Errorf("the peer has error %v, %v", unix.Errno(code), err)
	}
}

// A peer that has sent nothing, and is told that nobody could be reached, has no error
// (SO_ERROR) of that: it hears of its connection right afterwards.
func TestRouseIdle(t *testing.T) {
	for _, s := range []sort{tcp4, tcp6} {
		p := paired(t, s, map[int]string{unix.AF_INET: "127.0.0.1", unix.AF_INET6: "::1"}[s.family])
		peer, o := p.ends[0], &options.Dump{}
		o.TCPEstablished = true
		in, err := dumped(t, o, p.ends[1].Int())
		must(t, err)
		nodes, err := planned(in)
		must(t, err)
		heard := func() uint32 {
			info, err := unix.GetsockoptTCPInfo(peer.Int(), unix.IPPROTO_TCP, unix.TCP_INFO)
			must(t, err)
			return info.Segs_in
		}
		before := heard()
		must(t, nodes[0].(*node).rouse())
		for end := time.Now().Add(testkit.Patience); heard() == before; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("the peer hears nothing of its connection")
			}
		}
		if code, err := unix.GetsockoptInt(peer.Int(), unix.SOL_SOCKET, unix.SO_ERROR); code != 0 || err != nil {
			t.Errorf("the peer has error %v, %v", unix.Errno(code), err)
		}
	}
}

func TestDoublings(t *testing.T) {
	for away, want := range map[time.Duration]int{
		0: 0, 199 * time.Millisecond: 0, 200 * time.Millisecond: 1, 599 * time.Millisecond: 1, 600 * time.Millisecond: 2,
		3 * time.Second: 4, time.Hour: mostDoublings,
	} {
		if got := doublings(away); got != want {
			t.Errorf("%v: %d, want %d", away, got, want)
		}
	}
}
