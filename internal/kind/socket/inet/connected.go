package inet

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/kind/socket/tcp"
	"glis.dev/glis/internal/linux"
)

// finishConnection makes a new socket with its early options an end of a
// connection, in repair mode, of which the peer hears nothing.
func (n *node) finishConnection(h linux.Hand, own *fd.FD, k *socket.Kernel, at address) error {
	num := own.Int()
	zone, err := n.zone()
	if err != nil {
		return err
	}
	n.stream.Cork = n.number("TCP_CORK")
	if err := n.beginConnection(h, num, at, zone); err != nil {
		return err
	}
	if err := n.shutBefore(h, num); err != nil {
		return err
	}
	if n.stream.State == tcp.SynSent || n.atOnce {
		if err := h.Run(); err != nil {
			return err
		}
		h = linux.Hand{}
		if err := n.connectAtOnce(num); err != nil {
			return err
		}
	}
	if n.stream.State == tcp.SynSent {
		if err := n.beginConnecting(num); err != nil {
			return err
		}
	}
	if err := n.connectBy(h, num, zone); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return fmt.Errorf("connect to %v: %w", n.peer, err)
	}
	if err := n.askBack(h, num, at); err != nil {
		return err
	}
	if n.stream.State == tcp.SynSent {
		if err := k.Set(num, n.values(), socket.Late, socket.Opened); err != nil {
			return err
		}
		return n.endConnecting(own)
	}
	back, err := n.hearCame(h, num)
	if err != nil {
		return err
	}
	return n.endConnection(h, own, k, back)
}

// path is where its packets come from and go to.
func (n *node) path() tcp.Path {
	return tcp.Path{Local: n.at.addrPort(), Remote: n.peer.addrPort(), Device: n.opts.Entry.GetSoBoundDev()}
}

// beginConnection gives a new socket its address and its numbers. Repair mode does not
// wait for the others: they would be made without it if it is refused, and the
// connection would reach for its peer.
func (n *node) beginConnection(h linux.Hand, num int, at address, zone int) error {
	if err := tcp.Repair().Set(num); err != nil {
		return fmt.Errorf("enter repair mode (it needs CAP_NET_ADMIN): %w", err)
	}
	if err := n.bindBy(h, num, at, zone); err != nil {
		return err
	}
	return n.stream.Begin(h, num)
}

// askBack makes sure that the kernel has made of the connection what it should.
func (n *node) askBack(h linux.Hand, num int, at address) error {
	fast := n.number("TCP_FASTOPEN_CONNECT") != 0 && n.stream.State != tcp.SynSent
	if !fast && at.ip == n.at.ip {
		return nil
	}
	if err := h.Run(); err != nil {
		return err
	}
	if fast {
		if err := n.checkConnected(num); err != nil {
			return err
		}
	}
	if at.ip == n.at.ip {
		return nil
	}
	return n.checkSource(num) // it was left to the kernel
}

// endConnection gives a socket that is connected what is in its queues, and its
// options; heard is called when it has heard all that it is to.
func (n *node) endConnection(h linux.Hand, own *fd.FD, k *socket.Kernel, heard func() error) error {
	num, path := own.Int(), n.path()
	if err := n.stream.Finish(h, num, path); err != nil {
		return err
	}
	if n.answers() {
		if err := n.stream.Answer(num, path); err != nil {
			return err
		}
	}
	if err := heard(); err != nil {
		return err
	}
	if n.filtered() {
		if err := errors.Join(h.Run(), n.attachFilters(num)); err != nil {
			return err
		}
	}
	if err := n.setConnected(h, num, k); err != nil {
		return err
	}
	if err := h.Run(); err != nil {
		return err
	}
	if n.entry.shutdown != 0 {
		if err := unix.Shutdown(num, int(n.entry.shutdown)-1); err != nil {
			return fmt.Errorf("shutdown: %w", err)
		}
	}
	return n.flags(own)
}

// answers tells whether what came as if from the peer is to be acknowledged at once:
// to do so later would set TCP_QUICKACK, which is off.
func (n *node) answers() bool {
	v, ok := n.load.Of(n.opts, "TCP_QUICKACK")
	return ok && v.Lo == 0 && n.hears()
}

// bindBy is bindTo by a hand, if nothing but the address is needed for it.
func (n *node) bindBy(h linux.Hand, own int, at address, zone int) error {
	if h.Many() && at.port != 0 && !n.unseen.entry.GetForeign() {
		var room [28]byte
		return h.Bind(own, at.raw(&room, n.family, zone))
	}
	if err := h.Run(); err != nil {
		return err
	}
	return n.bindTo(own, at, zone)
}

// connectBy is the same for its peer.
func (n *node) connectBy(h linux.Hand, own, zone int) error {
	if !n.unseen.entry.GetForeign() && n.unseen.entry.GetFlowInfo() == 0 {
		var room [28]byte
		return h.Connect(own, n.peer.raw(&room, n.family, zone))
	}
	if err := h.Run(); err != nil {
		return err
	}
	return n.unseen.connectTo(own, n.peer, zone)
}
