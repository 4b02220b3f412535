package tcp

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// A connection that was made in repair mode does not know how long its peer takes to
// answer, and has timers of three seconds (TCP_TIMEOUT_FALLBACK of include/net/tcp.h)
// until something is acknowledged. Who sends learns it at once. But what waits for a
// window, or is held back (TCP_CORK), waits for such a timer, if for nothing else. So
// the byte before the first that isn't acknowledged, which the peer has, is sent once
// more, as some send it to ask whether a peer is there (RFC 9293, 3.8.4): any byte, since
// the peer drops it, and acknowledges.

// timed tells whether that is done.
func (s *Stream) timed() bool {
	e := s.Entry
	if s.State != Established && s.State != CloseWait || e.GetUnsqLen() != e.GetOutqLen() || !s.hasWindow() {
		return false
	}
	return s.Cork != 0 || e.GetUnsqLen() > e.GetSndWnd()
}

// acknowledged is up to where the peer seems to have acknowledged, in the making.
func (s *Stream) acknowledged() uint32 { return s.unacknowledged() - one(s.timed()) }

// fillTimed queues that byte, as a segment of its own.
func (s *Stream) fillTimed(fd int) error {
	return unrepaired(fd, func() error {
		if err := send(fd, []byte{0}, unix.MSG_EOR); err != nil {
			return fmt.Errorf("queue a byte that its peer has: %w", err)
		}
		return nil
	})
}
