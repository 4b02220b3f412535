package inet

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"glis.dev/glis/internal/kind/socket/tcp"
)

// couples are connections by the addresses of both ends, the lower one first, in few bytes:
// there may be thousands to be found. Each has the ends that come back, by their addresses.
type couples map[[2 * endSize]byte]*[2]*node

const endSize = 18 // an address and a port

// place finds a connection's name, and which of its ends is at an address.
func (couples) place(at, peer netip.AddrPort) (name [2 * endSize]byte, side int) {
	for i, a := range [2]netip.AddrPort{at, peer} {
		if ip := a.Addr(); ip.IsValid() {
			b := ip.As16()
			copy(name[endSize*i:], b[:])
		}
		binary.BigEndian.PutUint16(name[endSize*(i+1)-2:], a.Port())
	}
	if bytes.Compare(name[:endSize], name[endSize:]) > 0 {
		first := [endSize]byte(name[:])
		copy(name[:], name[endSize:])
		copy(name[endSize:], first[:])
		side = 1
	}
	return name, side
}

// add notes an end that comes back, and returns its peer, if that was noted before.
func (c couples) add(n *node) (peer *node, err error) {
	at, to := n.at.addrPort(), n.peer.addrPort()
	name, side := c.place(at, to)
	both := c[name]
	switch {
	case both == nil:
		both = new([2]*node)
		c[name] = both
	case both[side] != nil:
		// What waits in them isn't told: it may be read right now.
		return nil, fmt.Errorf("files %#x and %#x are one connection, from %v to %v", both[side].id, n.id, at, to)
	}
	both[side] = n
	if at == to { // it is connected to itself
		return n, nil
	}
	return both[1-side], nil
}

// at returns the end at an address, nil if it doesn't come back.
func (c couples) at(at, peer netip.AddrPort) *node {
	name, side := c.place(at, peer)
	if both := c[name]; both != nil {
		return both[side]
	}
	return nil
}

// couple finds the connections both ends of which come back.
func (k *Kind) couple() error {
	k.known = make(couples, k.count((*node).joins)/2)
	for _, n := range k.nodes {
		if !n.joins() {
			continue
		}
		o, err := k.known.add(n)
		if err != nil {
			return err
		}
		if o != nil {
			k.couples = append(k.couples, [2]*node{o, n})
		}
	}
	return nil
}

// join has both ends of connections agree, when their images are read.
func (k *Kind) join() error {
	for _, both := range k.couples {
		o, n := both[0], both[1]
		if err := tcp.Join(o.stream, n.stream); err != nil {
			return fmt.Errorf("%v: %w", n, err)
		}
		o.joined, n.joined = true, true
		o.waitFor(n)
		n.waitFor(o)
	}
	err := k.joinWaiting(k.known)
	k.couples, k.known = nil, nil
	return err
}

// joinWaiting finds the connections that one of the tree has begun with a
// listener of it, which hasn't accepted them yet. The listener comes after them:
// what it is sent as if from them it answers.
func (k *Kind) joinWaiting(known couples) error {
	for _, n := range k.nodes {
		for _, w := range n.few().waiting {
			o := known.at(w.Remote, w.Local)
			if o == nil || w.State == tcp.Closed {
				continue
			}
			if err := tcp.Join(o.stream, w.Stream); err != nil {
				return fmt.Errorf("%v: %w", o, err)
			}
			o.joined = true
			if o.at.port != n.at.port {
				n.needs = append(slices.Clip(n.needs), o.id)
			}
		}
	}
	return nil
}
