package unix

import (
	"context"
	"errors"
	"fmt"
	"slices"

	sys "golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/plan"
)

// prepare makes sockets, connects those that are made connected, and gives
// them their names. Whatever needs an abstract name for a moment only comes
// before the socket that keeps it.
func (k *Kind) prepare(ctx context.Context, env *plan.Env, nodes []*node) error {
	todo := k.closure(nodes)
	var pairs, connections []*link
	var plain []*node
	for _, n := range todo {
		switch l := n.link(); {
		case n.done:
		case l == nil:
			plain = append(plain, n)
		case l.byName():
			connections = append(connections, l)
		default:
			pairs = append(pairs, l)
		}
		n.claim()
	}
	if err := k.makeConnections(ctx, env, connections); err != nil {
		return err
	}
	if err := k.makePairs(ctx, env, pairs); err != nil {
		return err
	}
	if err := k.makePlain(ctx, env, plain); err != nil {
		return err
	}
	return k.awaken(ctx, env, todo)
}

// claim marks a socket, and what is made with it, as made.
func (n *node) claim() {
	n.done = true
	if n.typ != sys.SOCK_DGRAM && n.peer != nil {
		n.peer.done = true
	}
	if n.partner != nil {
		n.partner.done = true
	}
}

// closure adds to nodes those that have to be made before them.
func (k *Kind) closure(nodes []*node) []*node {
	seen := map[*node]bool{}
	var before, out []*node
	add := func(n *node) {
		if n == nil || n.done || seen[n] {
			return
		}
		seen[n] = true
		if !n.at.accepted && len(n.at.name) > 0 && n.at.name[0] == 0 {
			for _, o := range k.temporary[nameKey(n.typ, n.at.name)] {
				if !o.done && !seen[o] {
					seen[o] = true
					before = append(before, o)
				}
			}
		}
		out = append(out, n)
	}
	for _, n := range nodes {
		add(n)
		add(n.peerMade())
	}
	return append(before, out...)
}

// peerMade returns the socket that is made along with this one.
func (n *node) peerMade() *node {
	if n.typ == sys.SOCK_DGRAM {
		return n.partner
	}
	return n.peer
}

// makePlain makes sockets that are connected to nothing, or later.
func (k *Kind) makePlain(ctx context.Context, env *plan.Env, nodes []*node) error {
	for _, n := range nodes {
		s, err := sys.Socket(sys.AF_UNIX, n.typ|sys.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("%v: socket: %w", n, err)
		}
		if err := n.dress(fd.New(s)); err != nil {
			return err
		}
		if n.role == listener && !n.tardy() {
			if err := k.listen(ctx, env, n, n.made); err != nil {
				return fmt.Errorf("%v: %w", n, err)
			}
		}
	}
	return nil
}

// dress takes a new socket as the node's and gives it owner, mode and name.
func (n *node) dress(own *fd.FD) error {
	n.made = own
	inode := n.inode
	if who := n.identity(); inode == nil && (who.UID != 0 || who.GID != 0) {
		inode = socket.RootsInode() // who it is made as may be its peer
	}
	if err := socket.SetInode(own.Int(), inode); err != nil {
		return fmt.Errorf("%v: %w", n, err)
	}
	if err := n.bind(own.Int()); err != nil {
		return fmt.Errorf("%v: %w", n, err)
	}
	return nil
}

// bind gives the socket its name, unless it has it from a listener, or gets it later.
func (n *node) bind(own int) error {
	switch {
	case len(n.at.name) == 0, n.at.accepted && n.named(own), n.tardy():
		return nil
	case isPath(n.at.name) && (n.at.deleted || n.at.accepted):
		return n.kind.aside(own, n.at.name)
	}
	return n.at.bind(own)
}

// named tells whether a socket has a name already.
func (n *node) named(own int) bool {
	u, err := ownName(own)
	return err == nil && len(u) > 0
}

// awaken makes sure that senders of queued messages exist, who are told by
// SCM_CREDENTIALS.
func (k *Kind) awaken(ctx context.Context, env *plan.Env, nodes []*node) error {
	if env.Alive == nil {
		return nil
	}
	for _, n := range nodes {
		messages := slices.Clone(n.queue.messages)
		for _, a := range n.arrivals {
			messages = append(messages, a.queue.messages...)
		}
		for _, m := range messages {
			if m.who == nil {
				continue
			}
			if err := env.Alive(ctx, uint32(m.who.Pid)); err != nil {
				return fmt.Errorf("%v: %w", n, err)
			}
		}
	}
	return nil
}

// aside binds a socket to a path that leads nowhere.
func (k *Kind) aside(own int, name []byte) error {
	if k.room == nil {
		r, err := newRoom()
		if err != nil {
			return fmt.Errorf("a place to bind to %s: %w", nameString(name), err)
		}
		k.room = r
	}
	return k.room.bind(own, name)
}

// temporarily binds a socket to the name of one that is closed.
func (k *Kind) temporarily(own int, name []byte) error {
	switch {
	case len(name) == 0:
		return nil
	case isPath(name):
		return k.aside(own, name)
	}
	err := afterGarbage(name, func() error { return bindRaw(own, name) })
	if errors.Is(err, sys.EADDRINUSE) {
		return fmt.Errorf("bind to %s, as a socket was that is closed: %s has this name; end that program first: %w", nameString(name), holder(name), err)
	}
	return err
}
