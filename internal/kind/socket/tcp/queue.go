package tcp

import (
	"errors"
	"fmt"
	"math"

	"glis.dev/glis/image/proto"
	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/linux"
)

// siocoutqnsd is SIOCOUTQNSD of linux/sockios.h: how much was not sent yet.
const siocoutqnsd = 0x894b

// readQueues reads both queues without taking anything out of them.
func (s *Stream) readQueues(fd int, urgent bool) (err error) {
	var in, out, unsent int
	for _, q := range []struct {
		name  string
		req   uint
		bytes *int
	}{{"SIOCINQ", unix.SIOCINQ, &in}, {"SIOCOUTQ", unix.SIOCOUTQ, &out}, {"SIOCOUTQNSD", siocoutqnsd, &unsent}} {
		if q.bytes == &unsent && out == 0 {
			continue // what wasn't sent is part of it
		}
		if *q.bytes, err = unix.IoctlGetInt(fd, q.req); err != nil {
			return fmt.Errorf("read %s: %w", q.name, err)
		}
	}
	if urgent {
		in = 0
	}
	if s.ownFin() { // it counts as a byte, and isn't one
		out, unsent = max(out-1, 0), max(unsent-1, 0)
	}
	e := s.Entry
	e.InqLen, e.OutqLen, e.UnsqLen = proto.Uint32(uint32(in)), proto.Uint32(uint32(out)), proto.Uint32(uint32(unsent))
	if s.State == SynSent {
		return noEarlyData(fd)
	}
	if in+out == 0 {
		return nil
	}
	s.Queues = make([]byte, in+out)
	// The receive queue is the one that readNumbers has chosen last.
	if err := look(fd, recvQueue, s.Queues[:in]); err != nil || out == 0 {
		return err
	}
	if err := choose(fd, sendQueue); err != nil {
		return err
	}
	return lookSent(fd, s.Queues[in:])
}

// ErrEarlyData says that data goes with the first segment (MSG_FASTOPEN), which
// the kernel doesn't take back in.
var ErrEarlyData = errors.New("data is queued that goes with the first segment (MSG_FASTOPEN)")

// noEarlyData makes sure that nothing is queued before there is a connection.
func noEarlyData(fd int) error {
	if err := choose(fd, sendQueue); err != nil {
		return err
	}
	var b [1]byte
	n, _, err := unix.Recvfrom(fd, b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	if n > 0 || errors.Is(err, unix.EFAULT) { // it is more than there is room for
		return ErrEarlyData
	}
	if err != nil && !errors.Is(err, unix.EAGAIN) {
		return fmt.Errorf("peek at what goes with the first segment: %w", err)
	}
	return nil
}

// look peeks into the queue that is chosen.
func look(fd, queue int, into []byte) error {
	if len(into) == 0 {
		return nil
	}
	n, _, err := unix.Recvfrom(fd, into, unix.MSG_PEEK|unix.MSG_DONTWAIT)
	// A queue that has grown by more than there is room for is EFAULT.
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EFAULT) || err == nil && n != len(into) {
		return errMoved
	}
	if err != nil {
		return fmt.Errorf("peek at queue %d, %d bytes: %w", queue, len(into), err)
	}
	return nil
}

// lookSent peeks into the send queue. The kernel shows it by whole segments: a part of the
// first may be acknowledged, as of one that pieces were put together for when they were sent
// again. It is in front of what is asked for.
func lookSent(fd int, into []byte) error {
	err := look(fd, sendQueue, into)
	if !errors.Is(err, errMoved) {
		return err
	}
	wide := make([]byte, len(into)+math.MaxUint16)
	n, _, err := unix.Recvfrom(fd, wide, unix.MSG_PEEK|unix.MSG_DONTWAIT)
	if err != nil || n < len(into) {
		return errMoved
	}
	copy(into, wide[n-len(into):n])
	return nil
}

// parts are the three parts of the queues.
func (s *Stream) parts() (in, sent, unsent []byte) {
	n := int(s.Entry.GetInqLen())
	in, out := s.Queues[:n], s.Queues[n:]
	n = len(out) - int(s.Entry.GetUnsqLen())
	return in, out[:n], out[n:]
}

// fill puts the queues back.
func (s *Stream) fill(fd int, p Path) error {
	in, sent, unsent := s.parts()
	if err := s.fillUnread(fd, p, in); err != nil {
		return fmt.Errorf("what waits to be read: %w", err)
	}
	if err := s.push(fd, sent, 0); err != nil {
		return fmt.Errorf("what was sent and not acknowledged: %w", err)
	}
	if err := choose(fd, noQueue); err != nil {
		return err
	}
	if s.timed() {
		if err := s.fillTimed(fd); err != nil {
			return err
		}
	}
	if len(unsent) == 0 {
		return nil
	}
	if err := s.fillUnsent(fd, unsent, len(sent)); err != nil {
		return fmt.Errorf("what was not sent yet: %w", err)
	}
	return nil
}

// fillUnsent leaves repair mode for a moment: in it, whatever is put into the
// send queue counts as sent. The window of nothing that a new connection has
// keeps the kernel from sending it, whether its packets are held back or not.
func (s *Stream) fillUnsent(fd int, data []byte, before int) error {
	return unrepaired(fd, func() error { return s.send(fd, data, before) })
}

// unrepaired does what works outside of repair mode only.
func unrepaired(fd int, do func() error) error {
	if err := repair(fd, unix.TCP_REPAIR_OFF_NO_WP); err != nil {
		return err
	}
	return errors.Join(do(), repair(fd, unix.TCP_REPAIR_ON))
}

func repair(fd, mode int) error {
	if err := linux.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_REPAIR, mode); err != nil {
		return fmt.Errorf("set TCP_REPAIR to %d (it needs CAP_NET_ADMIN): %w", mode, err)
	}
	return nil
}

func push(fd, queue int, data []byte) error {
	if len(data) == 0 {
		return nil
	}
	if err := choose(fd, queue); err != nil {
		return err
	}
	return send(fd, data, 0)
}

func send(fd int, data []byte, flags int) error {
	for len(data) > 0 {
		n, err := unix.SendmsgN(fd, data, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL|flags)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("%d bytes more don't fit: %w", len(data), err)
		}
		data = data[n:]
	}
	return nil
}

// makeRoom lets the queues take what they have to. The sizes that the socket
// had are set with its other options, afterwards.
func (s *Stream) makeRoom(fd int) error {
	in, sent, unsent := s.parts()
	for _, q := range []struct {
		name  string
		force int
		bytes int
	}{{"SO_RCVBUFFORCE", unix.SO_RCVBUFFORCE, len(in)}, {"SO_SNDBUFFORCE", unix.SO_SNDBUFFORCE, len(sent) + len(unsent)}} {
		if q.bytes == 0 {
			continue
		}
		if err := linux.SetsockoptInt(fd, unix.SOL_SOCKET, q.force, math.MaxInt32/2); err != nil {
			return fmt.Errorf("set %s: %w", q.name, err)
		}
	}
	return nil
}
