package unix

import (
	"context"
	"fmt"

	sys "golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/plan"
)

// Held implements plan.Stuffed.
func (n *node) Held() []plan.ID {
	if !n.late {
		return nil
	}
	held := []plan.ID{}
	for _, m := range n.queue.messages {
		held = append(held, m.rights...)
		if m.sender != nil {
			held = append(held, m.sender.id)
		}
	}
	if n.peer != nil {
		held = append(held, n.peer.id)
	}
	for _, a := range n.arrivals {
		held = append(held, a.held()...)
	}
	return held
}

// Stuff implements plan.Stuffed. The first one does it for all: a queue may
// be filled by many sockets, and none may be connected or shut down before.
func (n *node) Stuff(ctx context.Context, env *plan.Env) error {
	k := n.kind
	if k.stuffed {
		return nil
	}
	k.stuffed = true
	if err := k.learn(); err != nil {
		return err
	}
	reconnect := func(env *plan.Env, n *node, own *fd.FD) error { return k.reconnect(ctx, env, n, own) }
	arrive := func(env *plan.Env, n *node, own *fd.FD) error { return k.arriveInOrder(ctx, env, n, own) }
	if err := k.datagrams(env); err != nil {
		return err
	}
	for _, step := range []func(*plan.Env, *node, *fd.FD) error{k.refill, arrive, reconnect, k.finish, k.shut, k.meet} {
		for _, n := range k.order {
			if !n.late {
				continue
			}
			own, err := env.File(n.id)
			if err == nil {
				err = step(env, n, own)
			}
			if err != nil {
				return fmt.Errorf("%v: %w", n, err)
			}
		}
	}
	return nil
}

func (k *Kind) finish(_ *plan.Env, n *node, own *fd.FD) error { return n.set(own) }

func (k *Kind) shut(_ *plan.Env, n *node, own *fd.FD) error { return n.shut(own) }

// refill fills the queue of one socket.
func (k *Kind) refill(env *plan.Env, n *node, own *fd.FD) error {
	switch {
	case n.typ == sys.SOCK_DGRAM:
		return nil
	case n.peer == nil:
		return n.fillAlone(env, own)
	case n.first:
		return nil
	}
	other, err := env.File(n.peer.id)
	if err != nil {
		return err
	}
	return n.fillPair(env, own, other)
}

// deliver sends one message, to the peer if that is who gets it.
func (k *Kind) deliver(env *plan.Env, n *node, own *fd.FD, m *queuedMessage, s *sender) error {
	control, err := m.control(env)
	if err != nil {
		return err
	}
	if s.joined {
		return m.use(func(data []byte) error { return s.send(data, control, false) })
	}
	at, done, err := addressTo(own.Int(), n.at.name)
	if err != nil {
		return err
	}
	defer done()
	s.to = at
	return m.use(func(data []byte) error { return s.send(data, control, false) })
}
