package unix

import (
	"fmt"
	"slices"

	sys "golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/plan"
)

// Planned checks what can only be checked when all sockets are known, and
// decides how each is made.
func (k *Kind) Planned() error {
	if err := each(k.order, (*node).join); err != nil {
		return err
	}
	k.guess()
	if err := each(k.order, (*node).depart); err != nil {
		return err
	}
	some := slices.DeleteFunc(slices.Clone(k.order), (*node).plainPair)
	if err := each(some, (*node).await, k.resolve, k.resolveArrivals); err != nil {
		return err
	}
	for _, n := range some {
		n.adopt()
		if n.peer != nil && n.peer != n && n.typ == sys.SOCK_DGRAM {
			n.peer.from = append(n.peer.from, n)
		}
	}
	for _, n := range some {
		if err := n.decide(); err != nil {
			return fmt.Errorf("files.img: file %#x: unix socket: %w", uint32(n.id), err)
		}
		if name := n.needsName(); name != "" {
			k.temporary[name] = append(k.temporary[name], n)
		}
	}
	if err := k.orderNames(some); err != nil {
		return err
	}
	for _, n := range some {
		n.delay()
	}
	for _, n := range some {
		n.late = n.late || n.peer != nil && n.peer.late
		n.first = n.first || n.typ == sys.SOCK_DGRAM && n.peer != nil && !n.peer.first
	}
	return nil
}

// plainPair tells whether a socket and its peer are a pair with nothing but data that
// anybody can have sent, as most are: of those nothing is left to be decided.
func (n *node) plainPair() bool {
	return n.peer != nil && n.plain() && n.peer.plain() && n.alike(n.peer)
}

// plain tells that of one of them.
func (n *node) plain() bool {
	return n.role == paired && n.typ != sys.SOCK_DGRAM && !n.late && n.shutdown == 0 && len(n.at.name) == 0 &&
		!slices.ContainsFunc(n.queue.messages, func(m *queuedMessage) bool { return len(m.rights) > 0 })
}

// each has sockets take one step after the other.
func each(all []*node, steps ...func(*node) error) error {
	for _, step := range steps {
		for _, n := range all {
			if err := step(n); err != nil {
				return fmt.Errorf("files.img: file %#x: unix socket: %w", uint32(n.id), err)
			}
		}
	}
	return nil
}

// resolve finds the other files that a socket refers to.
func (k *Kind) resolve(n *node) error {
	inTree := n.peerIno != 0 && n.role != waits && n.role != abroad
	if inTree && n.peer == nil {
		n.peer = k.nodes[n.peerIno]
	}
	if inTree && (n.peer == nil || n.peer.typ != n.typ) {
		return fmt.Errorf("its peer, socket %d, is missing", n.peerIno)
	}
	if inTree && n.typ != sys.SOCK_DGRAM && n.peer.peer != n {
		return fmt.Errorf("it is connected to file %#x, but that isn't to it", uint32(n.peer.id))
	}
	for i, m := range n.queue.messages {
		for _, id := range m.rights {
			if n.plan.Node(id) == nil {
				return fmt.Errorf("message %d in its queue: file %#x, which comes along, is missing", i+1, uint32(id))
			}
			k.contents[id] = true
		}
		if err := k.resolveSender(n, m); err != nil {
			return fmt.Errorf("message %d in its queue: %w", i+1, err)
		}
	}
	return nil
}

// resolveSender finds the socket that sends a message anew.
func (k *Kind) resolveSender(n *node, m *queuedMessage) error {
	switch {
	case n.typ == sys.SOCK_DGRAM && m.from != 0:
		if m.sender = k.called(m.from); m.sender == nil || m.sender.typ != sys.SOCK_DGRAM {
			return fmt.Errorf("its sender, file %#x, is missing", uint32(m.from))
		}
		if len(n.at.name) == 0 && !slices.Contains(n.heard, m.sender) {
			n.heard, m.sender.heard = append(n.heard, m.sender), append(m.sender.heard, n)
		}
	case n.typ == sys.SOCK_DGRAM && m.gone && len(n.at.name) == 0:
		if n.who == nil {
			return fmt.Errorf("it has no name, so that %s can't have sent it", nameString(m.name))
		}
	case n.typ == sys.SOCK_DGRAM && m.gone:
		m.sender = k.bearing(m.name) // who may as well have sent it
	case n.role != paired && n.role != orphan && (n.typ != sys.SOCK_DGRAM || n.who == nil):
		return fmt.Errorf("%w: data is queued at it and nobody can have sent it", kind.ErrUnsupported)
	case n.typ == sys.SOCK_DGRAM && n.peer != nil && n.peer.peer != n && n.peer.peerIno != n.ino:
		return fmt.Errorf("%w: data is queued at it and its peer can't have sent it", kind.ErrUnsupported)
	}
	return nil
}

// bearing returns the datagram socket that has an abstract name now, nil if there is none.
func (k *Kind) bearing(name []byte) *node {
	if k.bearers == nil {
		k.bearers = map[string]*node{}
		for _, o := range k.order {
			if o.typ == sys.SOCK_DGRAM && len(o.at.name) > 0 && o.at.name[0] == 0 {
				k.bearers[string(o.at.name)] = o
			}
		}
	}
	return k.bearers[string(name)]
}

// decide settles how the socket comes about, and whether its queue has to wait
// for other files.
func (n *node) decide() error {
	for _, m := range n.queue.messages {
		n.late = n.late || len(m.rights) > 0 || m.gone || m.sender != nil
	}
	if n.typ != sys.SOCK_DGRAM {
		return n.decideStream()
	}
	n.late = n.late || n.pending != 0 || n.mayBeMet()
	n.partner = n.findPartner()
	if err := n.checkPartner(); err != nil {
		return err
	}
	born := n.partner != nil && n.peer == n.partner && n.partner.peer == n
	if n.peer != nil && !born || n.role == orphan && (n.bornOf() == nil || n.moved()) {
		n.late = true
	}
	if n.late && n.partner != nil {
		n.partner.late = true
	}
	return nil
}

// moved tells whether a datagram socket whose peer is closed was connected to that only
// after it had left who it was made with: others are connected to it, which nobody can
// become to one that has a peer. (One with an error has that from who it was made with.)
func (n *node) moved() bool { return len(n.from) > 0 && len(n.peerName) > 0 && n.pending == 0 }

// delay lets those who send to a socket that is filled late be shut down late,
// too.
func (n *node) delay() {
	for _, m := range n.queue.messages {
		for o := m.sender; o != nil && !o.late; o = o.partner {
			o.late = true
		}
	}
}

func (n *node) decideStream() error {
	if n.peer != nil {
		n.early = n.shutdown &^ mirrored(n.peer.shutdown)
	}
	if n.peer == nil || n.alike(n.peer) {
		return nil
	}
	if len(n.at.name) == 0 && len(n.peer.at.name) == 0 {
		return fmt.Errorf("its end and its peer's tell of two processes, and neither has a name: that can't be")
	}
	return nil
}

// alike tells whether the ends of a connection tell the same of each other, as
// those of socketpair(2) do.
func (n *node) alike(o *node) bool { return n.who == o.who }

// findPartner returns the socket that a datagram socket was made with by
// socketpair(2), as far as that still shows.
func (n *node) findPartner() *node {
	for _, o := range slices.Concat([]*node{n.peer}, n.from, n.heard) {
		if o == nil || o == n || !n.alike(o) || o.partner != nil && o.partner != n || o.typ != n.typ {
			continue
		}
		mutual := n.peer == o && o.peer == n
		unnamed := n.peer == o && len(o.at.name) == 0 || o.peer == n && len(n.at.name) == 0
		if unnamed || mutual && n.who != nil || n.hears(o) || o.hears(n) {
			return o
		}
	}
	return nil
}

// checkPartner refuses what a socket without a name can't have got, as only who was
// made with it could send to it or desert it.
func (n *node) checkPartner() error {
	if len(n.at.name) > 0 {
		return nil
	}
	for i, m := range n.queue.messages {
		if m.sender != nil && m.sender != n.partner {
			return fmt.Errorf("message %d in its queue: it has no name, so that file %#x can't have sent it", i+1, uint32(m.sender.id))
		}
	}
	if n.pending != 0 && (n.partner != nil && n.partner.peer == n || n.partner == nil && n.bornOf() == nil) {
		return fmt.Errorf("error %d (%v) waits to be reported, and nobody can have caused it", int(n.pending), n.pending)
	}
	return nil
}

// hears tells whether a datagram socket without a name has a message from
// another one: that can have sent it only while they were a pair.
func (n *node) hears(o *node) bool {
	return len(n.at.name) == 0 && slices.ContainsFunc(n.queue.messages, func(m *queuedMessage) bool {
		return m.sender == o || m.sender == nil && !m.gone && n.peer == o
	})
}

// bornOf returns who made a datagram socket by socketpair(2), nil if it wasn't
// made that way, or by an unknown process.
func (n *node) bornOf() *plan.Identity {
	if n.typ == sys.SOCK_DGRAM && n.who == nil && n.role == orphan && len(n.peerName) == 0 {
		return &plan.Identity{}
	}
	return n.who
}

// needsName returns the abstract name that has to be free, for a moment, for
// the socket to be made: the one of a listener, or of a peer, that is closed
// or made later.
func (n *node) needsName() string {
	switch {
	case n.typ == sys.SOCK_DGRAM && n.role == orphan && len(n.peerName) > 0 && n.peerName[0] == 0:
		return nameKey(n.typ, n.peerName)
	case n.typ == sys.SOCK_DGRAM:
	case n.at.accepted && !isPath(n.at.name):
		return nameKey(n.typ, n.at.name)
	case n.role == orphan && len(n.peerName) > 0 && n.peerName[0] == 0:
		return nameKey(n.typ, n.peerName)
	}
	return ""
}

func nameKey(typ int, name []byte) string { return string(append([]byte{byte(typ)}, name...)) }
