package inet

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/testkit"
	"glis.dev/glis/options"
)

// remapped plans what moves from each address to the one behind it.
func remapped(in images, pairs ...string) ([]plan.Node, error) {
	o := &options.Restore{}
	o.TCPEstablished = true
	for p := range slices.Chunk(pairs, 2) {
		o.RemapAddr = append(o.RemapAddr, options.RemapAddr{Old: netip.MustParseAddr(p[0]), New: netip.MustParseAddr(p[1])})
	}
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
		if n.inbox != nil && (n.inbox.waiting[0].to != want || n.inbox.waiting[0].from != want) {
			t.Errorf("a datagram is to %v, and from %v, which is in the tree", n.inbox.waiting[0].to, n.inbox.waiting[0].from)
		}
	}
	if _, err := remapped(in, "127.0.0.7", "127.0.0.9"); err == nil {
		t.Error("an address that no socket has: no error")
	}
}

// What else tells of an address of this machine moves with it: the interface of multicast,
// the peers of a key, where what isn't sent yet comes from and goes to, IPV6_PKTINFO.
func TestRemapOptions(t *testing.T) {
	ne := binary.NativeEndian
	at, want, want6 := [4]byte{127, 0, 0, 1}, netip.MustParseAddr("127.0.0.9"), netip.MustParseAddr("fd00::9")
	key, multicast, corked, six := tcp4.bound(t, "127.0.0.1"), udp4.bound(t, "127.0.0.1"), udp4.make(t), udp6.bound(t, "::1")
	if err := (&secret{peers: netip.MustParsePrefix("127.0.0.1/32"), bytes: []byte("secret")}).set(key.Int(), unix.AF_INET); err != nil {
		testkit.Lacks(t, "CONFIG_TCP_MD5SIG", err, unix.ENOPROTOOPT)
	}
	must(t, unix.SetsockoptInet4Addr(multicast.Int(), unix.IPPROTO_IP, unix.IP_MULTICAST_IF, at))
	to, err := unix.Getsockname(multicast.Int())
	must(t, err)
	must(t, unix.Sendto(corked.Int(), []byte("one"), unix.MSG_MORE, to))
	must(t, unix.SetsockoptString(six.Int(), unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, string(ne.AppendUint32(netip.IPv6Loopback().AsSlice(), 0))))
	in, err := dumped(t, options.NewDump(), key.Int(), multicast.Int(), corked.Int(), six.Int())
	testkit.KernelMemory(t, err)
	nodes, err := remapped(in, "127.0.0.1", "127.0.0.9", "::1", "fd00::9")
	must(t, err)
	of := func(i int) *node { return nodes[i].(*node) }
	if got := of(0).few().keys[0].peers; got != netip.PrefixFrom(want, 32) {
		t.Errorf("a key is for %v", got)
	}
	if got := uint32(of(1).number("IP_MULTICAST_IF")); got != ne.Uint32(want.AsSlice()) {
		t.Errorf("IP_MULTICAST_IF is %#x", got)
	}
	if u := of(2).inbox.unsent; u.to.Addr() != want || u.from != want {
		t.Errorf("what isn't sent yet goes from %v to %v", u.from, u.to)
	}
	if got := of(3).unseen.info; got != want6 {
		t.Errorf("IPV6_PKTINFO is %v", got)
	}
}

// What waits at a raw or ping socket has come to the address that it has now: at another one
// nothing would come once more. A sum that counts the address is right.
func TestRemapReceived(t *testing.T) {
	k := New()
	must(t, k.readMoves([]options.RemapAddr{
		{Old: netip.MustParseAddr("127.0.0.1"), New: netip.MustParseAddr("127.0.0.9")},
		{Old: netip.MustParseAddr("fd00::1"), New: netip.MustParseAddr("fd00::9")},
	}))
	header4 := append(make([]byte, 12), 10, 0, 0, 1, 127, 0, 0, 1)
	header6 := append(make([]byte, 8), append(netip.MustParseAddr("fd00::2").AsSlice(), netip.MustParseAddr("fd00::1").AsSlice()...)...)
	header6[6] = unix.IPPROTO_ICMPV6
	body := []byte{echoReply6, 0, 0, 0, 1, 2, 3, 4}
	(&socket.Packet{From: netip.MustParseAddr("fd00::2"), To: netip.MustParseAddr("fd00::9"), Protocol: unix.IPPROTO_ICMPV6, Body: body}).Sum(2)
	old := append([]byte{}, body...)
	old[2]++
	for _, r := range []*received{{header: header4}, {header: header6, body: old}} {
		k.moveReceived(r)
		if d := r.datagram(); d.to != k.moves[netip.MustParseAddr(map[bool]string{true: "127.0.0.1", false: "fd00::1"}[d.to.Is4()])] {
			t.Errorf("it has come to %v", d.to)
		} else if d.to.Is6() && !bytes.Equal(r.body, body) {
			t.Errorf("% x, want % x", r.body, body)
		}
	}
	if header4[19] != 1 {
		t.Error("what was read is changed")
	}
}
