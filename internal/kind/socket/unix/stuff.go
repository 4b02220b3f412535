package unix

import (
	"context"
	"errors"
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
	arrive := func(env *plan.Env, n *node, own *fd.FD) error { return k.arrive(ctx, env, n, own) }
	for _, step := range []func(*plan.Env, *node, *fd.FD) error{k.refillFirst, k.leave, k.refill, k.wire, reconnect, arrive, k.finish, k.shut} {
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

// leaves tells whether a datagram socket is made connected to its partner and
// isn't any more.
func (n *node) leaves() bool { return n.born && !n.wired }

// refillFirst fills the queue of a socket whose peer is about to leave it.
func (k *Kind) refillFirst(env *plan.Env, n *node, own *fd.FD) error {
	if n.born && n.wired && n.partner.leaves() {
		return k.refillDatagrams(env, n, own)
	}
	return nil
}

// leave takes a socket's peer away, and with it all that is in its queue.
func (k *Kind) leave(_ *plan.Env, n *node, own *fd.FD) error {
	if n.leaves() {
		return disconnect(own.Int())
	}
	return nil
}

// refill fills the queue of one socket.
func (k *Kind) refill(env *plan.Env, n *node, own *fd.FD) error {
	switch {
	case n.typ == sys.SOCK_DGRAM && n.born && n.wired && n.partner.leaves():
		return nil
	case n.typ == sys.SOCK_DGRAM:
		if err := k.refillDatagrams(env, n, own); err != nil || n.mate == nil {
			return err
		}
		err := n.mate.Close()
		n.mate = nil
		return err
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

// refillDatagrams sends the messages of a datagram socket, each from the socket
// it came from.
func (k *Kind) refillDatagrams(env *plan.Env, n *node, own *fd.FD) (err error) {
	gone := map[string]*fd.FD{}
	defer func() {
		for _, d := range gone {
			err = errors.Join(err, d.Close())
		}
	}()
	for i, m := range n.queue.messages {
		s, err := k.senderOf(env, n, m, gone)
		if err != nil {
			return fmt.Errorf("message %d in its queue: %w", i+1, err)
		}
		if err := k.deliver(env, n, own, m, s); err != nil {
			return fmt.Errorf("message %d in its queue: %w", i+1, err)
		}
	}
	return nil
}

// senderOf returns the socket that sends a message: the peer, another one, or
// one in place of one that is closed.
func (k *Kind) senderOf(env *plan.Env, n *node, m *queuedMessage, gone map[string]*fd.FD) (*sender, error) {
	from := m.sender
	if from == nil && !m.gone {
		from = n.peer
	}
	switch {
	case from != nil:
		own, err := env.File(from.id)
		if err != nil {
			return nil, err
		}
		// Whom it is connected to it need not name.
		joined := from.born && from.partner == n && (from.wired || n.wired)
		return &sender{fd: own.Int(), raised: &from.raised, joined: joined}, nil
	case !m.gone && n.mate != nil:
		return &sender{fd: n.mate.Int(), raised: new(bool), joined: true}, nil
	}
	d := gone[string(m.name)]
	if d == nil {
		s, err := sys.Socket(sys.AF_UNIX, sys.SOCK_DGRAM|sys.SOCK_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("socket: %w", err)
		}
		d = fd.New(s)
		gone[string(m.name)] = d
		if err := k.temporarily(s, m.name); err != nil {
			return nil, err
		}
	}
	return &sender{fd: d.Int(), raised: new(bool)}, nil
}

// deliver sends one message, to the peer if that is who gets it.
func (k *Kind) deliver(env *plan.Env, n *node, own *fd.FD, m *queuedMessage, s *sender) error {
	control, err := m.control(env)
	if err != nil {
		return err
	}
	if s.joined {
		return s.send(m.data, control, false)
	}
	at, done, err := addressTo(own.Int(), n.at.name)
	if err != nil {
		return err
	}
	defer done()
	s.to = at
	return s.send(m.data, control, false)
}

// wire connects a datagram socket to its peer. Nobody may connect to one that
// is connected to somebody else: those that are connected to it come first.
func (k *Kind) wire(env *plan.Env, n *node, own *fd.FD) error {
	if n.typ != sys.SOCK_DGRAM || n.wired {
		return nil
	}
	n.wired = true
	for _, o := range n.from {
		if o.wired {
			continue
		}
		other, err := env.File(o.id)
		if err != nil {
			return err
		}
		if err := k.wire(env, o, other); err != nil {
			return fmt.Errorf("%v: %w", o, err)
		}
	}
	switch {
	case n.peer != nil:
		other, err := env.File(n.peer.id)
		if err != nil {
			return err
		}
		return connectTo(own.Int(), other.Int(), n.peer.at.name)
	case n.role == orphan:
		return k.wireToNobody(n, own)
	}
	return nil
}

// wireToNobody connects a datagram socket to one that is closed then.
func (k *Kind) wireToNobody(n *node, own *fd.FD) error {
	s, err := sys.Socket(sys.AF_UNIX, sys.SOCK_DGRAM|sys.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	defer sys.Close(s)
	if err := k.temporarily(s, n.peerName); err != nil {
		return err
	}
	return connectTo(own.Int(), s, n.peerName)
}
