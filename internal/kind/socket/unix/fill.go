package unix

import (
	"context"
	"errors"
	"fmt"

	sys "golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/plan"
)

// Fill implements plan.Filler, for sockets whose queue needs no other files.
func (n *node) Fill(_ context.Context, env *plan.Env, own *fd.FD) error {
	if n.late || n.peer != nil && n.first {
		return nil
	}
	if err := n.fill(env, own); err != nil {
		return fmt.Errorf("%v: %w", n, err)
	}
	return nil
}

func (n *node) fill(env *plan.Env, own *fd.FD) error {
	if err := n.kind.learn(); err != nil {
		return err
	}
	if n.peer == nil || n.peer == n {
		if err := n.fillAlone(env, own); err != nil {
			return err
		}
		return n.finish(own)
	}
	other, err := env.File(n.peer.id)
	if err != nil {
		return err
	}
	if err := n.fillPair(env, own, other); err != nil {
		return err
	}
	return errors.Join(n.finish(own), n.peer.finish(other))
}

// fillPair fills both queues, before any option is set, since options and
// shutdown(2) of either end get in the way of sending.
func (n *node) fillPair(env *plan.Env, own, other *fd.FD) error {
	n.queue.memory, n.peer.queue.memory = n.peer.sent, n.sent
	here, there := sender{fd: own.Int(), raised: &n.raised}, sender{fd: other.Int(), raised: &n.peer.raised}
	if err := n.queue.send(n.kind, env, &there, here.fd); err != nil {
		return err
	}
	return n.peer.queue.send(n.kind, env, &here, there.fd)
}

// fillAlone fills the queue of a socket whose peer is closed, and closes the
// peer. If that has something left to read, the socket gets ECONNRESET.
func (n *node) fillAlone(env *plan.Env, own *fd.FD) error {
	if n.mate == nil {
		return nil
	}
	s := sender{fd: n.mate.Int(), raised: new(bool)}
	if err := n.queue.send(n.kind, env, &s, own.Int()); err != nil {
		return err
	}
	if n.pending == sys.ECONNRESET {
		if err := (&sender{fd: own.Int(), raised: new(bool)}).send([]byte{0}, nil, true); err != nil {
			return err
		}
	}
	return n.dismiss()
}

// dismiss closes who was made with a socket and has sent all. Only now is it given its
// name, which the kernel tells of it for good: there may be others of the same name,
// one after the other.
func (n *node) dismiss() error {
	if n.mate == nil {
		return nil
	}
	err := n.nameMate()
	err = errors.Join(err, n.mate.Close())
	n.mate = nil
	return err
}

func (n *node) nameMate() error {
	own := n.peerName
	if len(own) == 0 {
		own = n.mateName
	}
	if len(own) == 0 {
		return nil
	}
	name, err := ownName(n.mate.Int())
	if err != nil || len(name) > 0 { // that of the listener it was accepted from
		return err
	}
	return n.kind.temporarily(n.mate.Int(), own)
}

// finish sets what would have been in the way before.
func (n *node) finish(own *fd.FD) error {
	if err := n.set(own); err != nil {
		return err
	}
	return n.shut(own)
}

// set brings options, flags and owner back.
func (n *node) set(own *fd.FD) error {
	var touched []string
	if n.raised {
		touched = []string{"SO_SNDBUF", "SO_BUF_LOCK"}
	}
	k := n.kind.kernel
	if err := k.Set(own.Int(), n.opts.Values, socket.Early, socket.Late, touched...); err != nil {
		return err
	}
	if err := socket.Attach(own.Int(), n.opts.Entry); err != nil {
		return err
	}
	if err := n.setUnseen(own.Int()); err != nil {
		return err
	}
	if err := k.Set(own.Int(), n.opts.Values, socket.Last, socket.Last); err != nil {
		return err
	}
	if err := n.owner.Set(own); err != nil {
		return err
	}
	if flags := n.flags &^ sys.O_ACCMODE; flags != 0 {
		if _, err := sys.FcntlInt(uintptr(own.Int()), sys.F_SETFL, flags); err != nil {
			return fmt.Errorf("set flags %#x: %w", flags, err)
		}
	}
	return nil
}

// shut shuts halves of the connection down. What the peer's shutdown did to
// this end happens again by itself.
func (n *node) shut(own *fd.FD) error {
	if n.shutdown == 0 || n.role == orphan && n.typ != sys.SOCK_DGRAM {
		return nil
	}
	how := n.shutdown
	if n.typ != sys.SOCK_DGRAM {
		how &^= n.early
	}
	if how == 0 {
		return nil
	}
	return shutdown(own, how)
}

// shutdown shuts halves down, as images have them.
func shutdown(own *fd.FD, halves uint8) error {
	how := int(halves) - 1 // SHUT_RD, SHUT_WR, SHUT_RDWR
	if err := sys.Shutdown(own.Int(), how); err != nil {
		return fmt.Errorf("shutdown %d: %w", how, err)
	}
	return nil
}
