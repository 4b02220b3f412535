package inet

import (
	"fmt"
	"net/netip"
	"slices"

	"glis.dev/glis/options"
)

// readMoves notes which addresses take which others' place (--remap-addr).
func (k *Kind) readMoves(all []options.RemapAddr) error {
	k.moves, k.moved = map[netip.Addr]netip.Addr{}, map[netip.Addr]bool{}
	for _, r := range all {
		if now, ok := k.moves[r.Old]; ok && now != r.New {
			return fmt.Errorf("--remap-addr: %v becomes %v and %v", r.Old, now, r.New)
		}
		k.moves[r.Old] = r.New
	}
	return nil
}

// moveIP returns the address that takes another's place.
func (k *Kind) moveIP(ip netip.Addr) netip.Addr {
	now, ok := k.moves[ip.Unmap()]
	if !ok {
		return ip
	}
	k.moved[ip.Unmap()] = true
	if ip.Is4In6() {
		return netip.AddrFrom16(now.As16())
	}
	return now
}

// move is moveIP for an address of this machine.
func (k *Kind) move(a address) address { return address{k.moveIP(a.ip), a.port} }

// movePeers moves the peers that are in the tree themselves, and makes sure that
// every address that was to be moved is there.
func (k *Kind) movePeers() error {
	if len(k.moves) == 0 {
		return nil
	}
	k.streams.beside.Wait()          // who reads them tells of peers, too
	own := map[uint16][]netip.Addr{} // addresses of the tree, as they are now
	for _, n := range k.nodes {
		own[n.at.port] = append(own[n.at.port], n.at.ip.Unmap())
	}
	inside := func(a address) bool {
		return slices.ContainsFunc(own[a.port], func(ip netip.Addr) bool { return ip == a.ip.Unmap() || ip.IsUnspecified() })
	}
	for _, n := range k.nodes {
		if now := k.move(n.peer); n.peer.set() && inside(now) {
			n.peer = now
		}
		if now := k.move(n.few().heard); n.few().heard.set() && inside(now) {
			n.give(func(m *more) { m.heard = now })
		}
		for _, w := range n.few().waiting {
			now := k.moveIP(w.Remote.Addr())
			if inside(address{now, w.Remote.Port()}) {
				w.Remote = netip.AddrPortFrom(now, w.Remote.Port())
			}
		}
	}
	for ip := range k.moves {
		if !k.moved[ip] {
			return fmt.Errorf("--remap-addr: no socket has the address %v", ip)
		}
	}
	return nil
}

// moveTo moves a datagram with the socket that it was sent to. An ICMP message
// quotes the packet that it is about, which that socket has sent.
func (k *Kind) moveTo(d *datagram, failed bool) {
	d.to = k.moveIP(d.to)
	const quoted = 8 // behind the header of ICMP
	at, n := quoted+12, 4
	if d.to.Is6() {
		at, n = quoted+8, 16
	}
	if !failed || len(d.body) < at+n {
		return
	}
	if from, ok := netip.AddrFromSlice(d.body[at : at+n]); ok {
		copy(d.body[at:], k.moveIP(from).AsSlice())
	}
}
