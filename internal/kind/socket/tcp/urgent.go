package tcp

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/linux"
)

// Mark is where urgent data is in what waits to be read: one byte.
type Mark struct {
	Offset uint32 // of that byte
	Read   bool   // it has been read by itself (MSG_OOB)
}

// Of struct tcp_sock's urg_data, include/net/tcp.h.
const (
	urgValid = 0x100
	urgRead  = 0x400
)

// Beyond tells whether more waits to be read than the first n bytes: the kernel
// counts, and shows, no more than what is before urgent data. It needs
// SO_PEEK_OFF of TCP (Linux 6.9), which it leaves off, and takes nothing. The
// socket must be in repair mode.
func Beyond(fd, n int) (bool, error) {
	if err := choose(fd, recvQueue); err != nil {
		return false, err
	}
	set := func(off int) error {
		return linux.SockOpt{Level: unix.SOL_SOCKET, Name: unix.SO_PEEK_OFF, Value: off}.Set(fd)
	}
	if err := set(n); err != nil {
		return false, err
	}
	var b [1]byte
	got, _, err := unix.Recvfrom(fd, b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	if off := set(-1); off != nil {
		return false, errors.Join(err, off)
	}
	if errors.Is(err, unix.EAGAIN) {
		return false, nil
	}
	return err == nil && got > 0, err
}

// Marked reads all that waits to be read from a connection with urgent data, and
// where that is: nil if there is none any more.
func (q *Queues) Marked(fd int, s *Stream) error {
	at, err := q.mem.Sock(fd)
	if err != nil {
		return err
	}
	t, err := q.mem.Struct("tcp_sock", at)
	if err != nil {
		return err
	}
	e, out := s.Entry, s.Queues[s.Entry.GetInqLen():]
	if t.U32("tcp_sock.rcv_nxt") != e.GetInqSeq() {
		return errMoved
	}
	w := &Waiting{Stream: &Stream{State: s.State, Entry: e}}
	if err := w.readQueue(q.mem, t); err != nil {
		return err
	}
	s.Queues = append(w.Queues, out...)
	if m := markOf(t); m != nil && m.Offset < e.GetInqLen() {
		s.Mark = m
	}
	return nil
}

// ReadSent finds out what is urgent of what was not acknowledged yet: the kernel
// tells it in every segment up to there.
func (q *Queues) ReadSent(fd int, s *Stream) error {
	at, err := q.mem.Sock(fd)
	if err != nil {
		return err
	}
	t, err := q.mem.Struct("tcp_sock", at)
	if err != nil {
		return err
	}
	s.readSent(t)
	return nil
}

func (s *Stream) readSent(t *kmem.Struct) {
	if n := t.U32("tcp_sock.snd_up") - s.unacknowledged(); n <= s.Entry.GetOutqLen() {
		s.Sent = n
	}
}

// push puts what was sent, or a part of that from a byte on, into the send queue of
// a socket in repair mode.
func (s *Stream) push(fd int, data []byte, before int) error {
	if len(data) == 0 {
		return nil
	}
	if err := choose(fd, sendQueue); err != nil {
		return err
	}
	return s.send(fd, data, before)
}

// send gives the socket data behind as many bytes, the last urgent byte as such.
func (s *Stream) send(fd int, data []byte, before int) error {
	if n := int(s.Sent) - before; n > 0 && n <= len(data) {
		if err := send(fd, data[:n], unix.MSG_OOB); err != nil {
			return err
		}
		data = data[n:]
	}
	return send(fd, data, 0)
}

// markOf returns where urgent data is that has come; nil if there is none.
func markOf(t *kmem.Struct) *Mark {
	state, offset := t.U16("tcp_sock.urg_data"), t.U32("tcp_sock.urg_seq")-t.U32("tcp_sock.copied_seq")
	if state&(urgValid|urgRead) == 0 {
		return nil
	}
	return &Mark{Offset: offset, Read: state&urgRead != 0}
}

// fillUnread puts what waits to be read back. Urgent data nobody but the peer can
// send: a segment of that form is made here.
func (s *Stream) fillUnread(fd int, p Path, in []byte) error {
	if s.Mark == nil {
		return push(fd, recvQueue, in)
	}
	at := s.Mark.Offset
	if err := push(fd, recvQueue, in[:at]); err != nil {
		return err
	}
	if err := s.hearUrgent(fd, p, s.start()+at, in[at:at+1]); err != nil {
		return fmt.Errorf("urgent data: %w", err)
	}
	return push(fd, recvQueue, in[at+1:])
}

func (s *Stream) hearUrgent(fd int, p Path, seq uint32, b []byte) error {
	back, err := unbind(fd, p.Device)
	if err != nil {
		return err
	}
	seg := segment{Path: p, flags: flagAck | flagUrg, seq: seq, ack: s.acknowledged(), data: b, urgent: 1, came: &s.Came}
	if err := seg.send(); err != nil {
		return fmt.Errorf("send it a segment as if from its peer: %w", err)
	}
	if err := choose(fd, recvQueue); err != nil {
		return err
	}
	err = await(func() (bool, error) {
		next, err := number(fd, "TCP_QUEUE_SEQ", unix.TCP_QUEUE_SEQ)
		return err == nil && *next == seq+1, err
	})
	if err := errors.Join(err, back()); err != nil || !s.Mark.Read {
		return err
	}
	return readUrgent(fd)
}

// readUrgent takes urgent data, which leaves its place behind.
func readUrgent(fd int) error {
	return unrepaired(fd, func() error {
		var b [1]byte
		if _, _, err := unix.Recvfrom(fd, b[:], unix.MSG_OOB|unix.MSG_DONTWAIT); err != nil {
			return fmt.Errorf("read it: %w", err)
		}
		return nil
	})
}
