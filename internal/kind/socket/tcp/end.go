package tcp

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	tcp_stream "glis.dev/glis/image/criu/tcp-stream"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/linux"
)

// WasConnected tells whether a socket has had a connection, or tried to: a
// segment has come or gone.
func WasConnected(fd int) (bool, error) {
	i, err := readInfo(fd)
	return i.segsIn+i.segsOut > 0, err
}

// Unread returns what waits to be read from a socket, without taking it.
func Unread(fd int) ([]byte, error) {
	n, err := unix.IoctlGetInt(fd, unix.SIOCINQ)
	if err != nil || n == 0 { // to look at nothing would take the error
		return nil, err
	}
	b := make([]byte, n)
	got, _, err := unix.Recvfrom(fd, b, unix.MSG_PEEK|unix.MSG_DONTWAIT)
	if err == nil && got != n {
		err = errMoved
	}
	return b, err
}

// End is what is left of a connection that has ended.
type End struct {
	Unread []byte
	Err    unix.Errno // what the next call reports: 0, ECONNRESET, EPIPE or ECONNREFUSED
	// Connecting: connect(2) has not told how it went.
	Connecting bool
	Local      netip.AddrPort
	Device     string
}

// Touched names the options that Make has changed.
func (e *End) Touched() []string {
	s := e.stream()
	s.State = CloseWait // as its peer's end came, too
	return s.Touched()
}

// stream is a connection with nothing but what wasn't read.
func (e *End) stream() *Stream {
	n := proto.Uint32
	unread := n(uint32(len(e.Unread)))
	return &Stream{State: Established, Queues: e.Unread, Entry: &tcp_stream.TcpStreamEntry{
		InqLen: unread, InqSeq: unread, OutqLen: n(0), OutqSeq: n(1), UnsqLen: n(0), OptMask: n(0), SndWscale: n(0), MssClamp: n(536),
	}}
}

// Make gives a socket that is bound, in repair mode, this end. connect connects
// it to a port of its own address. It leaves repair mode.
func (e *End) Make(fd int, connect func(port uint16) error) error {
	if e.Refused() {
		if err := repair(fd, unix.TCP_REPAIR_OFF_NO_WP); err != nil {
			return err
		}
		return e.Refuse(fd, connect)
	}
	s := e.stream()
	if err := s.Begin(linux.Hand{}, fd); err != nil {
		return err
	}
	port, err := nobody(connect)
	if err != nil {
		return err
	}
	p := Path{Local: e.Local, Remote: netip.AddrPortFrom(e.Local.Addr(), port), Device: e.Device}
	if err := s.Finish(linux.Hand{}, fd, p); err != nil {
		return err
	}
	return e.finish(fd, s, p)
}

// Refused tells whether the connection never came about.
func (e *End) Refused() bool {
	return e.Err == unix.ECONNREFUSED || e.Connecting && e.Err == 0 && len(e.Unread) == 0
}

// Waiting is such a connection before it has ended, as one that waits to be accepted, which tells
// of what made it (IP_MULTICAST_TTL) as one that made itself.
func (e *End) Waiting() *Waiting {
	none := &End{Local: e.Local}
	s := none.stream()
	s.Entry.MssClamp, s.Came = proto.Uint32(maxMSS), Came{Hops: freshHops}
	return &Waiting{Stream: s, Local: e.Local, Remote: e.nobody()}
}

// nobody is its peer, if it is accepted.
func (e *End) nobody() netip.AddrPort { return netip.AddrPortFrom(e.Local.Addr(), 1) }

// Accepted gives what was Waiting, and has been accepted, this end.
func (e *End) Accepted(fd int) error {
	if err := repair(fd, unix.TCP_REPAIR_ON); err != nil {
		return err
	}
	s, p := e.stream(), Path{Local: e.Local, Remote: e.nobody()}
	if err := s.makeRoom(fd); err != nil {
		return err
	}
	if err := s.fill(fd, p); err != nil {
		return err
	}
	return e.finish(fd, s, p)
}

// finish ends a connection that has all that wasn't read, in repair mode.
func (e *End) finish(fd int, s *Stream, p Path) error {
	if err := e.reset(fd, s, p); err != nil {
		return err
	}
	if err := repair(fd, unix.TCP_REPAIR_OFF_NO_WP); err != nil {
		return err
	}
	return e.Report(fd)
}

// Report takes the error, if it was taken.
func (e *End) Report(fd int) error {
	if e.Err != 0 {
		return nil
	}
	if _, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil {
		return fmt.Errorf("take its error (SO_ERROR): %w", err)
	}
	return nil
}

// nobody connects a socket in repair mode to a port that none like it is
// connected to.
func nobody(connect func(port uint16) error) (uint16, error) {
	const most = 64
	for port := uint16(1); ; port++ {
		err := connect(port)
		if err == nil {
			return port, nil
		}
		if !errors.Is(err, unix.EADDRNOTAVAIL) || port == most {
			return 0, fmt.Errorf("connect it to nobody: %w", err)
		}
	}
}

// reset lets the socket hear that its peer has reset the connection; that is
// EPIPE after the peer's FIN, and ECONNRESET else.
func (e *End) reset(fd int, s *Stream, p Path) error {
	next := s.Entry.GetInqSeq()
	if e.Err == unix.EPIPE {
		// The answer may lead to a reset, too.
		if err := s.hear(fd, p, flagAck|flagFin, s.Entry.GetOutqSeq(), CloseWait, Closed); err != nil {
			return err
		}
		next++
	}
	s.Entry.InqSeq = &next
	return s.hear(fd, p, flagAck|flagRst, s.Entry.GetOutqSeq(), Closed)
}

// Refuse lets the socket try to connect where nobody listens.
func (e *End) Refuse(fd int, connect func(port uint16) error) error {
	if err := unix.SetNonblock(fd, true); err != nil {
		return fmt.Errorf("set O_NONBLOCK: %w", err)
	}
	if err := connect(1); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return fmt.Errorf("connect it to nobody: %w", err)
	}
	return errors.Join(awaitState(fd, Closed), e.Report(fd), unix.SetNonblock(fd, false))
}
