package inet

import (
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Ends are found by their addresses as packets have them, whichever comes first, one that
// is connected to itself too; an end that comes twice is refused.
func TestCouples(t *testing.T) {
	end := func(family int, at, peer string) *node {
		own, other := netip.MustParseAddrPort(at), netip.MustParseAddrPort(peer)
		return &node{id: 7, sort: sort{family: family, protocol: unix.IPPROTO_TCP, connected: true}, at: address{own.Addr(), own.Port()}, peer: address{other.Addr(), other.Port()}}
	}
	a, b := end(unix.AF_INET, "127.0.0.1:1", "127.0.0.2:2"), end(unix.AF_INET6, "[::ffff:127.0.0.2]:2", "[::ffff:127.0.0.1]:1")
	self, alone := end(unix.AF_INET, "127.0.0.1:3", "127.0.0.1:3"), end(unix.AF_INET6, "[::1]:1", "[::1]:2")
	for _, order := range [][]*node{{a, b, self, alone}, {alone, self, b, a}} {
		known := couples{}
		for i, n := range order {
			peer, err := known.add(n)
			want := map[*node]*node{self: self}[n]
			if i > 0 && (n == a && order[i-1] == b || n == b && order[i-1] == a) {
				want = order[i-1]
			}
			if peer != want || err != nil {
				t.Errorf("%v: another peer than %v, %v", n.at, n.peer, err)
			}
		}
		for _, n := range order {
			if _, err := known.add(n); err == nil || !strings.HasPrefix(err.Error(), "files 0x7 and 0x7 are one connection, from ") {
				t.Errorf("file %#x is there twice: %v", n.id, err) // before its own image is read
			}
			if got := known.at(n.at.addrPort(), n.peer.addrPort()); got != n {
				t.Errorf("another one is found for %v", n.at)
			}
		}
		if got := known.at(alone.peer.addrPort(), alone.at.addrPort()); got != nil {
			t.Errorf("%v is found, which doesn't come back", got.at)
		}
	}
}
