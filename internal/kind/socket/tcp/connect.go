package tcp

import (
	"encoding/binary"
	"fmt"
	"slices"

	tcp_stream "glis.dev/glis/image/criu/tcp-stream"
	"glis.dev/glis/image/proto"
	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/linux"
)

// Options of a segment, and the largest shift of a window: RFC 9293, RFC 7323.
const (
	segMSS        = 2
	segWscale     = 3
	segSACK       = 4
	segTimestamps = 8
	maxWscale     = 14
	maxMSS        = 1<<16 - 1
	maxWindow     = 1 << 30
)

// Parse checks the image of a connection, which is not trusted. Nothing of e is kept.
func Parse(state int, e *tcp_stream.TcpStreamEntry, queues []byte) (*Stream, error) {
	s := &Stream{State: state, Queues: queues}
	return s, s.parse(e, len(queues))
}

// ParseLater is Parse of a connection whose queues, of so many bytes, are there later.
func ParseLater(state int, e *tcp_stream.TcpStreamEntry, queued int, later func(use func(queues []byte) error) error) (*Stream, error) {
	s := &Stream{State: state, Later: later}
	return s, s.parse(e, queued)
}

// parse checks an entry and takes it.
func (s *Stream) parse(e *tcp_stream.TcpStreamEntry, queued int) error {
	e = compact(e)
	s.Entry = e
	switch have := uint64(queued); {
	case have != uint64(e.GetInqLen())+uint64(e.GetOutqLen()):
		return fmt.Errorf("queues of %d and %d bytes, and %d bytes behind them", e.GetInqLen(), e.GetOutqLen(), have)
	case e.GetUnsqLen() > e.GetOutqLen():
		return fmt.Errorf("%d bytes were not sent yet, of %d that are queued", e.GetUnsqLen(), e.GetOutqLen())
	case e.GetSndWscale() > maxWscale || e.GetRcvWscale() > maxWscale:
		return fmt.Errorf("windows shifted by %d and %d can't be", e.GetSndWscale(), e.GetRcvWscale())
	case e.GetMssClamp() == 0 || e.GetMssClamp() > maxMSS:
		return fmt.Errorf("segments of %d bytes can't be", e.GetMssClamp())
	}
	if s.State == FinWait2 && e.GetOutqLen() != 0 {
		return fmt.Errorf("%d bytes are to be sent or acknowledged in state FIN_WAIT2: that can't be", e.GetOutqLen())
	}
	if s.State == SynSent && queued != 0 {
		return fmt.Errorf("%d bytes are queued before there is a connection: that can't be", queued)
	}
	s.sendAgain()
	return s.checkWindow()
}

// burst is how many segments a new connection may send at once (TCP_INIT_CWND).
const burst = 10

// sendAgain takes what was sent and not acknowledged for unsent, if the peer
// has closed its direction and it is little: the kernel doesn't ask such a peer
// for news (see Resume), and would wait for seconds before it sends again.
func (s *Stream) sendAgain() {
	e := s.Entry
	if s.State == CloseWait && e.GetUnsqLen() == 0 && e.GetOutqLen() <= burst/2*e.GetMssClamp() {
		e.UnsqLen = proto.Uint32(e.GetOutqLen())
	}
}

// checkWindow makes sure that the kernel will take the window.
func (s *Stream) checkWindow() error {
	if !s.hasWindow() || s.State == SynSent {
		return nil
	}
	e := s.Entry
	next := e.GetInqSeq()
	switch {
	case e.GetSndWnd() > e.GetMaxWindow() || e.GetMaxWindow() > maxWindow || e.GetRcvWnd() > maxWindow:
		return fmt.Errorf("windows of %d (at most %d) and %d bytes can't be", e.GetSndWnd(), e.GetMaxWindow(), e.GetRcvWnd())
	case after(e.GetRcvWup(), next), after(e.GetSndWl1(), next+e.GetRcvWnd()):
		return fmt.Errorf("the window was told at %d and %d, and %d comes next: that can't be", e.GetRcvWup(), e.GetSndWl1(), next)
	}
	return nil
}

// after compares sequence numbers, which go round.
func after(a, b uint32) bool { return int32(a-b) > 0 }

// hasWindow: kernels before 4.8 don't tell the window.
func (s *Stream) hasWindow() bool {
	e := s.Entry
	return e.SndWl1 != nil && e.SndWnd != nil && e.MaxWindow != nil && e.RcvWnd != nil && e.RcvWup != nil
}

// Begin gives a new socket that is in repair mode its sequence numbers. It is
// then bound and connected, which sends nothing.
func (s *Stream) Begin(h linux.Hand, fd int) error {
	for _, q := range []struct {
		queue int
		seq   uint32
	}{{recvQueue, s.start()}, {sendQueue, s.acknowledged()}} {
		if err := chooseBy(h, fd, q.queue); err != nil {
			return err
		}
		if err := h.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_QUEUE_SEQ, int(int32(q.seq))); err != nil {
			return fmt.Errorf("set TCP_QUEUE_SEQ: %w", err)
		}
	}
	return nil
}

// start is the number of the first byte that waits to be read.
func (s *Stream) start() uint32 {
	return s.Entry.GetInqSeq() - one(s.peerFin()) - s.Entry.GetInqLen()
}

// Finish gives a socket that is connected in repair mode what its connection
// has agreed upon, its queues and its windows, and brings it to its state. It
// stays in repair mode.
func (s *Stream) Finish(h linux.Hand, fd int, p Path) error {
	if s.idle() {
		return s.finishIdle(h, fd, p)
	}
	if err := h.Run(); err != nil {
		return err
	}
	if s.Later == nil {
		return s.finishBusy(fd, p)
	}
	return s.Later(func(queues []byte) error {
		s.Queues = queues
		defer func() { s.Queues = nil }()
		return s.finishBusy(fd, p)
	})
}

// finishBusy is Finish for one that is not idle.
func (s *Stream) finishBusy(fd int, p Path) error {
	h := linux.Hand{}
	steps := []func(int) error{func(fd int) error { return s.agree(h, fd) }, s.makeRoom, func(fd int) error { return s.sizeSegments(fd, p) }, func(fd int) error { return s.fill(fd, p) }}
	for _, f := range steps {
		if err := f(fd); err != nil {
			return err
		}
	}
	if err := s.close(fd, p); err != nil {
		return err
	}
	return s.open(h, fd)
}

// idle tells whether nothing is in the queues of a connection that both ends can
// still use, which is as most are.
func (s *Stream) idle() bool {
	return s.State == Established && len(s.Queues) == 0 && s.Later == nil && s.Mark == nil && !s.timed()
}

// finishIdle is Finish for one that is idle: with nothing to be sent its window
// can be open at once.
func (s *Stream) finishIdle(h linux.Hand, fd int, p Path) error {
	if err := s.agree(h, fd); err != nil {
		return err
	}
	if err := s.open(h, fd); err != nil {
		return err
	}
	return sizeAnew(h, fd, p)
}

// open sets the window.
func (s *Stream) open(h linux.Hand, fd int) error {
	if !s.hasWindow() {
		return nil
	}
	w, least := s.window(), one(s.timed())
	w[1] += least
	w[2] = max(w[1], w[2])
	if s.timed() {
		w[0] = s.Entry.GetInqSeq() - asked
	}
	return setWindow(h, fd, w)
}

// agree sets the options of the handshake. Only a connection that has sent
// nothing yet takes them.
func (s *Stream) agree(h linux.Hand, fd int) error {
	e := s.Entry
	var room [8]uint32
	opts := append(room[:0], segMSS, e.GetMssClamp())
	if e.GetOptMask()&optWscale != 0 {
		opts = append(opts, segWscale, e.GetSndWscale()|e.GetRcvWscale()<<16)
	}
	if e.GetOptMask()&optSACK != 0 {
		opts = append(opts, segSACK, 0)
	}
	if e.GetOptMask()&optTimestamps != 0 {
		opts = append(opts, segTimestamps, 0)
	}
	var bytes [4 * len(room)]byte
	if err := h.Setsockopt(fd, unix.IPPROTO_TCP, unix.TCP_REPAIR_OPTIONS, appendWords(bytes[:0], opts)); err != nil {
		return fmt.Errorf("set TCP_REPAIR_OPTIONS: %w", err)
	}
	if e.GetOptMask()&optTimestamps == 0 {
		return nil
	}
	if err := h.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_TIMESTAMP, int(int32(e.GetTimestamp()))); err != nil {
		return fmt.Errorf("set TCP_TIMESTAMP: %w", err)
	}
	return nil
}

// window is a struct tcp_repair_window.
func (s *Stream) window() [5]uint32 {
	e := s.Entry
	return [5]uint32{e.GetSndWl1(), e.GetSndWnd(), e.GetMaxWindow(), e.GetRcvWnd(), e.GetRcvWup()}
}

func setWindow(h linux.Hand, fd int, w [5]uint32) error {
	var room [windowSize]byte
	if err := h.Setsockopt(fd, unix.IPPROTO_TCP, unix.TCP_REPAIR_WINDOW, appendWords(room[:0], w[:])); err != nil {
		return fmt.Errorf("set TCP_REPAIR_WINDOW to %v: %w", w, err)
	}
	return nil
}

func appendWords(b []byte, words []uint32) []byte {
	for _, v := range words {
		b = binary.NativeEndian.AppendUint32(b, v)
	}
	return b
}

// sizeSegments has the kernel work out anew how large a segment can be: it did
// so when the socket was connected, for a peer of which nothing was known, and
// would keep to 536 bytes, with IPv6 to 1220, until the path changes. Nothing can
// be sent yet, as there is no window yet.
func (s *Stream) sizeSegments(fd int, p Path) error {
	if s.hasWindow() {
		start, room := s.start(), max(s.Entry.GetRcvWnd(), s.Entry.GetInqLen())+1 // for a FIN
		if err := setWindow(linux.Hand{}, fd, [5]uint32{start, 0, s.Entry.GetMaxWindow(), room, start}); err != nil {
			return err
		}
	}
	return sizeAnew(linux.Hand{}, fd, p)
}

// sizeAnew has it be worked out. Setting no IP options is a change to the path, see
// do_ip_setsockopt() in net/ipv4/ip_sockglue.c, and so are headers of IPv6 that are none, see
// ipv6_update_options() in net/ipv6/ipv6_sockglue.c. These are taken away again.
func sizeAnew(h linux.Hand, fd int, p Path) error {
	if !p.v6() {
		if err := h.Setsockopt(fd, unix.IPPROTO_IP, unix.IP_OPTIONS, nil); err != nil {
			return fmt.Errorf("set IP_OPTIONS to none: %w", err)
		}
		return nil
	}
	for _, v := range [][]byte{make([]byte, 4), nil} {
		if err := h.Setsockopt(fd, unix.IPPROTO_IPV6, unix.IPV6_2292PKTOPTIONS, v); err != nil {
			return fmt.Errorf("set IPV6_2292PKTOPTIONS to none: %w", err)
		}
	}
	return nil
}

// Resume returns what lets a restored connection go on, when its packets are
// let through. It asks the peer for news by a window probe, unless told that
// there are none, and sends what is queued at once: to set or reset TCP_CORK
// does.
func (s *Stream) Resume(reuse int, news bool) []linux.SockOpt {
	const tcp = unix.IPPROTO_TCP
	out := []linux.SockOpt{{Level: tcp, Name: unix.TCP_REPAIR, Value: unix.TCP_REPAIR_OFF_NO_WP}}
	if news && !s.timed() {
		out[0].Value = unix.TCP_REPAIR_OFF
	}
	if s.Entry.GetUnsqLen() > 0 || s.timed() || s.ownFin() && s.State != FinWait2 {
		out = append(out, linux.SockOpt{Level: tcp, Name: unix.TCP_CORK, Value: 0})
		if s.Cork != 0 {
			out = append(out, linux.SockOpt{Level: tcp, Name: unix.TCP_CORK, Value: s.Cork})
		}
	}
	// The end of repair mode resets it.
	if reuse != 0 {
		out = append(out, linux.SockOpt{Level: unix.SOL_SOCKET, Name: unix.SO_REUSEADDR, Value: reuse})
	}
	return out
}

// Join makes the two ends of one connection, both restored, agree: what the
// other end has received is acknowledged, and all the rest is sent again as if
// it never had been. It says what doesn't fit.
func Join(a, b *Stream) error {
	if err := a.trim(b); err != nil {
		return err
	}
	if err := b.trim(a); err != nil {
		return err
	}
	a.widen(b)
	b.widen(a)
	return nil
}

// trim drops from the send queue what the peer has.
func (s *Stream) trim(peer *Stream) error {
	e := s.Entry
	unacknowledged, fin := e.GetOutqSeq()-peer.Entry.GetInqSeq(), one(s.ownFin() && s.State != FinWait2)
	if unacknowledged > e.GetOutqLen()+fin {
		return fmt.Errorf("its peer waits for byte %d, and it has bytes %d to %d: they were not saved at one time", peer.Entry.GetInqSeq(), e.GetOutqSeq()-e.GetOutqLen(), e.GetOutqSeq())
	}
	if unacknowledged > 0 {
		unacknowledged -= fin
	}
	if in, drop := e.GetInqLen(), e.GetOutqLen()-unacknowledged; drop > 0 {
		if later := s.Later; later != nil {
			s.Later = func(use func([]byte) error) error {
				return later(func(q []byte) error { return use(slices.Delete(q, int(in), int(in+drop))) })
			}
		} else {
			s.Queues = append(s.Queues[:in:in], s.Queues[in+drop:]...)
		}
		s.Sent -= min(s.Sent, drop)
	}
	put(&e.OutqLen, unacknowledged)
	put(&e.UnsqLen, unacknowledged)
	return nil
}

// widen takes over the window that the peer offers.
func (s *Stream) widen(peer *Stream) {
	if !s.hasWindow() || !peer.hasWindow() {
		return
	}
	p := peer.Entry
	wnd := p.GetRcvWup() + p.GetRcvWnd() - p.GetInqSeq()
	if wnd > maxWindow { // it took more than it had offered
		wnd = 0
	}
	put(&s.Entry.SndWnd, wnd)
	put(&s.Entry.SndWl1, s.Entry.GetInqSeq())
	put(&s.Entry.MaxWindow, max(wnd, s.Entry.GetMaxWindow()))
}

// put gives a number of an entry that was parsed, which has memory of its own for each,
// another value.
func put(at **uint32, v uint32) {
	if *at == nil {
		*at = new(uint32)
	}
	**at = v
}

// Touched names the options that Finish has changed, or may have: a peer's end that
// comes resets TCP_QUICKACK, and so may a segment that it is told of.
func (s *Stream) Touched() []string {
	if s.idle() && !s.Came.Told() {
		return nil
	}
	t := []string{"TCP_QUICKACK"}
	if s.Entry.GetInqLen() > 0 {
		t = append(t, "SO_RCVBUF")
	}
	if s.Entry.GetOutqLen() > 0 {
		t = append(t, "SO_SNDBUF")
	}
	return t
}

// String says what is queued.
func (s *Stream) String() string {
	e := s.Entry
	if e.GetInqLen()+e.GetOutqLen() == 0 {
		return ""
	}
	return fmt.Sprintf(", %d bytes to be read, %d to be sent or acknowledged", e.GetInqLen(), e.GetOutqLen())
}
