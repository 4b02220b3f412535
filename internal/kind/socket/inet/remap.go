package inet

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/extra"
	"glis.dev/glis/internal/kind/socket"
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
			w.Remote = k.movePort(w.Remote, inside)
		}
		if n.inbox != nil {
			k.moveInbox(n.inbox, inside)
		}
	}
	for ip := range k.moves {
		if !k.moved[ip] {
			return fmt.Errorf("--remap-addr: no socket has the address %v", ip)
		}
	}
	return nil
}

// movePort moves an address of somebody else that is in the tree.
func (k *Kind) movePort(a netip.AddrPort, inside func(address) bool) netip.AddrPort {
	if now := k.moveIP(a.Addr()); inside(address{now, a.Port()}) {
		return netip.AddrPortFrom(now, a.Port())
	}
	return a
}

// moveInbox moves who has sent what waits, so that an answer gets there, and who is to get
// what isn't sent yet.
func (k *Kind) moveInbox(box *inbox, inside func(address) bool) {
	for _, d := range box.waiting {
		d.from = k.movePort(netip.AddrPortFrom(d.from, binary.BigEndian.Uint16(d.body)), inside).Addr()
	}
	if u := box.unsent; u != nil && u.to.IsValid() {
		u.to = k.movePort(u.to, inside)
	}
}

// moveOptions returns options that tell of addresses as they are now.
func (k *Kind) moveOptions(all []*extra.SocketOption) []*extra.SocketOption {
	if len(k.moves) == 0 {
		return all
	}
	out := slices.Clone(all)
	for i, o := range all {
		if o.GetLevel() != unix.IPPROTO_IP || o.GetName() != unix.IP_MULTICAST_IF {
			continue
		}
		if ip, ok := netip.AddrFromSlice(o.GetValue()); ok {
			out[i] = &extra.SocketOption{Level: o.Level, Name: o.Name, Value: k.moveIP(ip).AsSlice()}
		}
	}
	return out
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

// moveReceived is moveTo for a packet with its header, of which the kernel sums that of IPv4.
func (k *Kind) moveReceived(r *received) {
	d := r.datagram()
	now := k.moveIP(d.to)
	if now == d.to {
		return
	}
	to := now.AsSlice() // comes last
	r.header = append(slices.Clone(r.header[:len(r.header)-len(to)]), to...)
	const sum = 2 // of ICMP, and it counts both addresses
	if now.Is6() && r.header[6] == unix.IPPROTO_ICMPV6 {
		p := &socket.Packet{From: d.from, To: now, Protocol: unix.IPPROTO_ICMPV6, Body: slices.Clone(r.body)}
		clear(p.Body[sum : sum+2])
		p.Sum(sum)
		r.body = p.Body
	}
}
