package tcp

import (
	"fmt"

	"glis.dev/glis/image/proto"
	"golang.org/x/sys/unix"
)

// A connection that was made in repair mode does not know how long its peer takes to
// answer, and has timers of three seconds (TCP_TIMEOUT_FALLBACK of include/net/tcp.h)
// until something is acknowledged. Who sends learns it at once. But what waits for a
// window, or is held back (TCP_CORK), waits for such a timer, if for nothing else. So
// the byte before the first that isn't acknowledged, which the peer has, is sent once
// more, as some send it to ask whether a peer is there (RFC 9293, 3.8.4): any byte, since
// the peer drops it, and acknowledges.
//
// Until the peer has acknowledged it, as when that is away itself, it stands in front of
// what is queued, and the next dump is to leave it out: a second one in front of it would
// have the peer acknowledge what was never sent, which the kernel does not take. What tells
// of it is the place in the peer's data that the window was told at (snd_wl1). It is set to
// one that is long past, which is as good as the last, and stays until the peer is heard.

// asked is how long past, in bytes: no window of the kernel's was told so long ago.
const asked = 1<<29 | 0x61736b

// forgetAsked leaves that byte out.
func (s *Stream) forgetAsked() {
	e := s.Entry
	if !s.hasWindow() || e.GetSndWl1() != e.GetInqSeq()-asked || e.GetOutqLen() == 0 {
		return
	}
	if e.GetUnsqLen() == e.GetOutqLen() {
		e.UnsqLen = proto.Uint32(e.GetUnsqLen() - 1)
	}
	e.OutqLen = proto.Uint32(e.GetOutqLen() - 1)
	in := e.GetInqLen()
	s.Queues = append(s.Queues[:in:in], s.Queues[in+1:]...)
	e.SndWl1 = e.InqSeq
	if e.GetSndWnd() > 0 { // see open
		e.SndWnd = proto.Uint32(e.GetSndWnd() - 1)
	}
}

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
