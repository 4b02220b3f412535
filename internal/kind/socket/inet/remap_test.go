package inet

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/testkit"
	"glis.dev/glis/options"
)

func remapped(in images, old, now string) ([]plan.Node, error) {
	o := &options.Restore{}
	o.TCPEstablished = true
	o.RemapAddr = []options.RemapAddr{{Old: netip.MustParseAddr(old), New: netip.MustParseAddr(now)}}
	return plannedWith(in, o)
}

// A listener, both ends of a connection, one that waits, and a UDP socket with a
// datagram move to another address.
func TestRemap(t *testing.T) {
	l := tcp4.bound(t, "127.0.0.1")
	must(t, unix.Listen(l.Int(), 5))
	c := client(t, tcp4, l.Int())
	a, _, err := unix.Accept4(l.Int(), unix.SOCK_CLOEXEC)
	must(t, err)
	accepted := own(t, a, nil)
	waits := client(t, tcp4, l.Int())
	u := udp4.bound(t, "127.0.0.1")
	at, err := unix.Getsockname(u.Int())
	must(t, err)
	must(t, unix.Connect(u.Int(), at))
	must(t, unix.Sendmsg(u.Int(), []byte("to itself"), nil, nil, 0))
	o := &options.Dump{}
	o.TCPEstablished = true
	in, err := dumped(t, o, l.Int(), c.Int(), accepted.Int(), waits.Int(), u.Int())
	testkit.KernelMemory(t, err)
	nodes, err := remapped(in, "127.0.0.1", "127.0.0.9")
	must(t, err)
	want := netip.MustParseAddr("127.0.0.9")
	for _, n := range nodes {
		n := n.(*node)
		if n.at.ip != want || n.peer.set() && n.peer.ip != want {
			t.Errorf("%v", n)
		}
		for _, w := range n.few().waiting {
			if w.Local.Addr() != want || w.Remote.Addr() != want {
				t.Errorf("%v waits at %v", w.Remote, w.Local)
			}
		}
		if n.inbox != nil && n.inbox.waiting[0].to != want {
			t.Errorf("a datagram is to %v", n.inbox.waiting[0].to)
		}
	}
	if _, err := remapped(in, "127.0.0.7", "127.0.0.9"); err == nil {
		t.Error("an address that no socket has: no error")
	}
}
