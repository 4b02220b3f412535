package unix

import (
	"context"
	"fmt"
	"slices"

	sys "golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/plan"
)

// A client that is closed and waits to be accepted may have had an abstract name that
// another socket has by now. Somebody has to connect by it once more, and only then
// that socket can be bound to it, and, if it listens, be connected to itself. It was
// so before: who has the name was bound after who had it had connected. So it is with
// connections whose listener is gone, and with peers that are closed, which get their
// names when they have sent all.

// orderNames finds out which sockets can be bound only after what waits at listeners.
func (k *Kind) orderNames(all []*node) error {
	had, left := map[string][]*node{}, map[string][]*node{}
	for _, n := range all {
		for _, name := range n.lefts() {
			left[nameKey(n.typ, name)] = append(left[nameKey(n.typ, name)], n)
		}
		for _, a := range n.arrivals {
			if a.client == nil && len(a.name) > 0 && !isPath(a.name) {
				had[nameKey(n.typ, a.name)] = append(had[nameKey(n.typ, a.name)], n)
			}
		}
	}
	for _, n := range all {
		if len(n.at.name) == 0 || isPath(n.at.name) || n.at.accepted {
			continue
		}
		key := nameKey(n.typ, n.at.name)
		n.after, n.heirs = had[key], slices.DeleteFunc(slices.Clone(left[key]), func(o *node) bool { return o == n })
		n.lent = len(n.heirs) > 0 || n.typ != sys.SOCK_DGRAM && n.role != listener && len(k.temporary[key]) > 0
		n.late = n.late || n.tardy()
		if n.tardy() && n.partner != nil {
			n.partner.late = true
		}
		n.disown()
	}
	for _, n := range all {
		if err := n.checkAfter(); err != nil {
			return err
		}
	}
	return nil
}

// disown has what those who had its name before have sent be sent by others of that name:
// as it is bound only later, those can.
func (n *node) disown() {
	for _, o := range n.heirs {
		for _, m := range o.queue.messages {
			if m.gone && m.sender == n {
				m.sender = nil
			}
		}
	}
}

// lefts returns the abstract names that are given to who is closed when it has sent all.
func (n *node) lefts() (all [][]byte) {
	add := func(name []byte) {
		if len(name) > 0 && !isPath(name) {
			all = append(all, name)
		}
	}
	if n.role == orphan {
		add(n.peerName)
	}
	if n.typ == sys.SOCK_DGRAM && len(n.at.name) == 0 && n.partner == nil {
		for _, m := range n.queue.messages {
			if m.sender == nil {
				add(m.name)
			}
		}
	}
	return all
}

// tardy tells whether the socket gets its name only after what waits at listeners, or
// others need it before.
func (n *node) tardy() bool { return len(n.after) > 0 || n.lent }

// checkAfter refuses listeners that would have to be there before themselves.
func (n *node) checkAfter() error {
	switch n.ordered {
	case over:
		return nil
	case begun:
		return fmt.Errorf("files.img: file %#x: unix socket: a client that waits at it had a name that can't have been free then", uint32(n.id))
	}
	n.ordered = begun
	for _, m := range n.after {
		if err := m.checkAfter(); err != nil {
			return err
		}
	}
	n.ordered = over
	return nil
}

// arriveInOrder connects what waits at a listener, after it has got its name, if that
// has to come after what waits at others.
func (k *Kind) arriveInOrder(ctx context.Context, env *plan.Env, n *node, own *fd.FD) error {
	if n.settled {
		return nil
	}
	n.settled = true
	for _, m := range n.after {
		door, err := env.File(m.id)
		if err == nil {
			err = k.arriveInOrder(ctx, env, m, door)
		}
		if err != nil {
			return fmt.Errorf("%v: %w", m, err)
		}
	}
	if n.tardy() && n.typ != sys.SOCK_DGRAM { // which has it by now, see turns
		if err := k.appear(ctx, env, n, own); err != nil {
			return err
		}
	}
	return k.arrive(ctx, env, n, own)
}

// appear gives a socket its name, and has it listen.
func (k *Kind) appear(ctx context.Context, env *plan.Env, n *node, own *fd.FD) error {
	if err := n.at.bind(own.Int()); err != nil || n.role != listener {
		return err
	}
	return k.listen(ctx, env, n, own)
}

// listen makes a socket listen, by the engine at first, which knows the limits,
// then by whoever did it: clients are told who that was.
func (k *Kind) listen(ctx context.Context, env *plan.Env, n *node, own *fd.FD) error {
	if err := socket.Listen(own.Int(), n.backlog); err != nil {
		return err
	}
	return k.listenAs(ctx, env, n.identity(), own.Int(), n.backlog)
}

func (k *Kind) listenAs(ctx context.Context, env *plan.Env, who plan.Identity, own, backlog int) error {
	if env.As == nil {
		return sys.Listen(own, backlog)
	}
	_, err := env.As(ctx, who, []int{own}, func(m plan.Making) {
		m.Add("listen", sys.SYS_LISTEN, m.Lent(0), uint64(backlog))
	})
	return err
}
