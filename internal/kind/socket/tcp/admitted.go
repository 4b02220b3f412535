package tcp

import (
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/sockdiag"
)

// fill gives a connection that has just got into a queue what came from its
// peer before, and waits until it has it: nobody has a descriptor of it.
func (a *Admitter) fill(w *Waiting) error {
	if len(w.Queues) == 0 && w.State == Established {
		return nil
	}
	c, err := sockdiag.Open(0)
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // nothing was written
	at := w.start()
	for left := w.Queues; len(left) > 0; {
		s := w.next(at, left, a.piece)
		if err := s.send(); err != nil {
			return fmt.Errorf("send it %d bytes as if from its peer: %w", len(s.data), err)
		}
		left, at = left[len(s.data):], at+uint32(len(s.data))
		if err := w.awaitUnread(c, len(w.Queues)-len(left)); err != nil {
			return err
		}
	}
	return w.end(c, at)
}

// next is the next segment of data, most bytes at most. Urgent data is a segment of
// its own.
func (w *Waiting) next(at uint32, left []byte, most int) *segment {
	n, flags, urgent := min(len(left), most), uint8(flagAck|flagPsh), uint16(0)
	if w.Mark != nil {
		switch before := int(w.Mark.Offset) - (len(w.Queues) - len(left)); {
		case before > 0:
			n = min(n, before)
		case before == 0:
			n, flags, urgent = 1, flags|flagUrg, 1
		}
	}
	s := w.segment(flags, at, left[:n])
	s.urgent = urgent
	return s
}

// end lets it hear that its peer has closed or reset the connection.
func (w *Waiting) end(c *sockdiag.Conn, at uint32) error {
	if w.State == CloseWait || w.State == Closed && w.Err == unix.EPIPE {
		if err := w.segment(flagAck|flagFin, at, nil).send(); err != nil {
			return err
		}
		if err := w.awaitState(c, CloseWait); err != nil {
			return err
		}
		at++
	}
	if w.State != Closed {
		return nil
	}
	if err := w.segment(flagAck|flagRst, at, nil).send(); err != nil {
		return err
	}
	return w.awaitState(c, Closed)
}

// look returns what sock_diag tells of the connection; its state is Closed if it
// tells nothing.
func (w *Waiting) look(c *sockdiag.Conn) (sockdiag.Inet, error) {
	device, err := w.device()
	if err != nil {
		return sockdiag.Inet{}, err
	}
	s, err := c.FindInet(unix.IPPROTO_TCP, w.Local, w.Remote, device)
	if errors.Is(err, unix.ENOENT) || err == nil && s.Dst.Port() != w.Remote.Port() { // the listener
		return sockdiag.Inet{State: Closed}, nil
	}
	return s, err
}

// device is the number of the interface that it belongs to, 0 if to none.
func (w *Waiting) device() (int, error) {
	if w.Device == "" {
		return 0, nil
	}
	i, err := net.InterfaceByName(w.Device)
	if err != nil {
		return 0, fmt.Errorf("interface %q of the connection from %v: %w", w.Device, w.Remote, err)
	}
	return i.Index, nil
}

func (w *Waiting) awaitUnread(c *sockdiag.Conn, bytes int) error {
	got := sockdiag.Inet{}
	err := await(func() (ok bool, err error) {
		got, err = w.look(c)
		return got.State != Closed && int(got.RQueue) >= bytes, err
	})
	if err != nil {
		return fmt.Errorf("of what waits to be read from %v, %d of %d bytes arrive: %w", w.Remote, got.RQueue, bytes, err)
	}
	return nil
}

func (w *Waiting) awaitState(c *sockdiag.Conn, state int) error {
	got := sockdiag.Inet{}
	err := await(func() (ok bool, err error) {
		got, err = w.look(c)
		return int(got.State) == state, err
	})
	if err != nil {
		return fmt.Errorf("the connection from %v is in state %d, not %d: %w", w.Remote, got.State, state, err)
	}
	return nil
}

// errNoArrival says that a segment of ours had no effect.
var errNoArrival = errors.New("a segment as if from its peer doesn't arrive: does a firewall hold back packets on the loopback interface?")

// await waits for what a segment does: it does so within microseconds.
func await(done func() (bool, error)) error {
	for end := time.Now().Add(patience); ; {
		ok, err := done()
		if ok || err != nil {
			return err
		}
		if time.Now().After(end) {
			return errNoArrival
		}
		time.Sleep(10 * time.Microsecond)
	}
}
