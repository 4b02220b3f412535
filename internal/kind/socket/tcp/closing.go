package tcp

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind/socket"
)

// Path is where the packets of a connection come from and go to.
type Path struct {
	Local, Remote netip.AddrPort
	// Device is the interface it is bound to, "" if to none.
	Device string
}

// v6 tells whether packets are of IPv6.
func (p Path) v6() bool { return p.Local.Addr().Is6() }

// ownFin tells whether this end has closed its direction: a FIN is the last it
// sends, which counts as a byte.
func (s *Stream) ownFin() bool {
	return s.State == FinWait1 || s.State == FinWait2 || s.State == Closing || s.State == LastAck
}

// peerFin tells whether the peer's FIN has come.
func (s *Stream) peerFin() bool { return PeerClosed(s.State) }

// one is 1 if a FIN is part of a sequence.
func one(fin bool) uint32 {
	if fin {
		return 1
	}
	return 0
}

// close brings a connection whose queues are full to the state it was in. Its
// own FIN is queued, and waits like data for a window, unless it was
// acknowledged. The peer's, and its acknowledgement, nobody but the peer can
// send: a segment of that form is made here.
func (s *Stream) close(fd int, p Path) error {
	switch s.State {
	case FinWait1:
		return queueFin(fd)
	case FinWait2:
		if err := sentFin(fd); err != nil {
			return err
		}
		return s.hear(fd, p, flagAck, s.Entry.GetOutqSeq(), FinWait2)
	case Closing:
		if err := queueFin(fd); err != nil {
			return err
		}
		return s.hear(fd, p, flagAck|flagFin, s.unacknowledged(), Closing)
	case CloseWait, LastAck:
		if err := s.hear(fd, p, flagAck|flagFin, s.acknowledged(), CloseWait); err != nil || s.State == CloseWait {
			return err
		}
		return queueFin(fd)
	}
	return nil
}

// unacknowledged is the number of the first byte that the peer has not told to
// have.
func (s *Stream) unacknowledged() uint32 {
	return s.Entry.GetOutqSeq() - one(s.ownFin() || s.State == SynSent) - s.Entry.GetOutqLen()
}

// queueFin closes this direction as the application did. Without a window
// nothing is sent.
func queueFin(fd int) error {
	return unrepaired(fd, func() error {
		if err := unix.Shutdown(fd, unix.SHUT_WR); err != nil {
			return fmt.Errorf("shutdown: %w", err)
		}
		return nil
	})
}

// sentFin does the same so that the FIN counts as sent.
func sentFin(fd int) error {
	if err := choose(fd, sendQueue); err != nil {
		return err
	}
	if err := unix.Shutdown(fd, unix.SHUT_WR); err != nil {
		return fmt.Errorf("shutdown: %w", err)
	}
	return choose(fd, noQueue)
}

// patience is how long a segment may need to arrive: it does so within
// microseconds, on the loopback interface.
const patience = 2 * time.Second

// hear lets the socket receive a segment as if from its peer, and waits until
// it has reached a state.
func (s *Stream) hear(fd int, p Path, flags uint8, ack uint32, states ...int) error {
	back, err := unbind(fd, p.Device)
	if err != nil {
		return err
	}
	seg := segment{Path: p, flags: flags, seq: s.Entry.GetInqSeq() - one(s.peerFin()), ack: ack, came: &s.Came}
	if err := seg.send(); err != nil {
		return fmt.Errorf("send it a segment as if from its peer: %w", err)
	}
	if err := awaitState(fd, states...); err != nil {
		return err
	}
	return back()
}

// Answer has a socket acknowledge at once what it was sent as if from its peer, of which
// that hears nothing. What comes to a socket that has had it already is answered, too.
func (s *Stream) Answer(fd int, p Path) error {
	before, err := readInfo(fd)
	if err != nil {
		return err
	}
	back, err := unbind(fd, p.Device)
	if err != nil {
		return err
	}
	if err := s.Repeat(p, false); err != nil {
		return err
	}
	answered := func(i *info) bool { return i.segsOut != before.segsOut }
	return errors.Join(awaitInfo(fd, "it isn't answered", answered), back())
}

// Repeat sends a connection a segment as if from its peer, which it has had already, so that it
// tells the peer how far it is. It belongs to its interface if it is bound, or that was taken
// off meanwhile.
func (s *Stream) Repeat(p Path, bound bool) error {
	old := s.start()
	if e := s.Entry; s.hasWindow() && after(old, e.GetRcvWup()) {
		old = e.GetRcvWup()
	}
	seg := segment{Path: p, flags: flagAck, seq: old - 1, ack: s.acknowledged(), came: &s.Came, bound: bound}
	if err := seg.send(); err != nil {
		return fmt.Errorf("send it a segment as if from its peer: %w", err)
	}
	return nil
}

// unbind takes a socket from its interface, as it couldn't be reached from
// loopback else, and returns what puts it there again.
func unbind(fd int, device string) (back func() error, err error) {
	if device == "" {
		return func() error { return nil }, nil
	}
	return func() error { return socket.BindToDevice(fd, device) }, socket.BindToDevice(fd, "")
}

// awaitState waits for what a segment does.
func awaitState(fd int, states ...int) error {
	return awaitInfo(fd, fmt.Sprintf("its state is not %v", states), func(i *info) bool { return slices.Contains(states, int(i.state)) })
}

// awaitInfo waits for what a segment does; there is no event for all of that.
func awaitInfo(fd int, missing string, done func(*info) bool) error {
	for end := time.Now().Add(patience); ; {
		i, err := readInfo(fd)
		if err != nil {
			return err
		}
		if done(&i) {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("a segment as if from its peer doesn't reach it, %s (it is in state %d): does a firewall hold back packets on the loopback interface?", missing, i.state)
		}
		time.Sleep(10 * time.Microsecond)
	}
}
