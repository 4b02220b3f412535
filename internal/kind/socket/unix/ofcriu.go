package unix

import (
	"bytes"
	"slices"

	sys "golang.org/x/sys/unix"
)

// guess works out what criu's images don't tell, and Glis's do: whether a name
// is a socket's own, and whether a datagram socket was ever connected.
func (k *Kind) guess() {
	if len(k.identities) > 0 || k.extras.Any() {
		return
	}
	for _, n := range k.order {
		switch {
		case n.typ == sys.SOCK_DGRAM:
			n.guessServer()
		case len(n.at.name) > 0 && n.wasAccepted():
			n.at = address{name: n.at.name, perms: n.at.perms, deleted: n.at.deleted, accepted: true}
		}
	}
}

// guessServer sees that a datagram socket is a server. The kernel also calls
// one connected that others are connected to, and criu writes that down. Who
// sent what is queued at it is not known.
func (n *node) guessServer() {
	if n.role != orphan || len(n.at.name) == 0 {
		return
	}
	n.role, n.met = alone, true
	for _, m := range n.queue.messages {
		m.gone = m.from == 0
	}
}

// wasAccepted tells whether a connected socket has its name from a listener: one
// of that name is there, or its peer has none, as clients.
func (n *node) wasAccepted() bool {
	if n.role != paired && n.role != orphan {
		return false
	}
	if p := n.kind.nodes[n.peerIno]; n.role == paired && p != nil && len(p.at.name) == 0 {
		return true
	}
	return slices.ContainsFunc(n.kind.order, func(o *node) bool {
		return o.role == listener && o.typ == n.typ && o.at.dir == n.at.dir && bytes.Equal(o.at.name, n.at.name)
	})
}
