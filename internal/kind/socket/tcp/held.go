package tcp

import (
	"encoding/binary"
	"errors"
	"fmt"

	tcp_stream "glis.dev/glis/image/criu/tcp-stream"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/sockmem"
)

// An end of a connection that nobody can be asked for is read from the kernel's memory
// alone, between two pictures that are the same.

// heldNames are the members of structures that are read of one.
func heldNames() []string {
	return []string{
		"sock.sk_write_queue", "sock.tcp_rtx_queue", "rb_node.rb_left", "rb_node.rb_right", "sk_buff.rbnode",
		"tcp_sock.saved_syn", "tcp_congestion_ops.name",
	}
}

// ErrHeld says that such an end can't be told of.
var ErrHeld = errors.New("it can't be told")

func errHeld(why string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrHeld, fmt.Sprintf(why, args...))
}

// Held returns an end of a connection. sk is where the kernel has it, and look takes its
// picture. Its packets must be held back.
func (q *Queues) Held(sk kmem.Addr, look func(*sockmem.Picture) error) (*Stream, error) {
	now, err := stampClock()
	if err != nil {
		return nil, err
	}
	s, err := untilStill(func() (*Stream, error) {
		var before, after sockmem.Picture
		if err := look(&before); err != nil {
			return nil, err
		}
		s, err := q.heldOnce(sk, &before, ClockOf(now, 0))
		if err != nil {
			return nil, err
		}
		if err := look(&after); err != nil {
			return nil, err
		}
		if before != after || !before.Quiet() {
			return nil, errMoved
		}
		return s, nil
	})
	if errors.Is(err, errRestless) {
		err = errHeld("%v", err)
	}
	return s, err
}

func (q *Queues) heldOnce(sk kmem.Addr, p *sockmem.Picture, clock uint32) (*Stream, error) {
	w := &p.Word
	switch {
	case w[sockmem.Err]|w[sockmem.Errors] != 0:
		return nil, errHeld("an error or a time stamp waits at it")
	case w[sockmem.UsecTS] != 0:
		return nil, errHeld("its time stamps are in microseconds")
	case w[sockmem.Repair] != 0:
		return nil, errHeld("it is in repair mode (TCP_REPAIR)")
	}
	t, err := q.mem.Struct("tcp_sock", sk)
	if err != nil {
		return nil, err
	}
	if t.Pointer("tcp_sock.saved_syn") != 0 {
		return nil, errHeld("its first segment is kept (TCP_SAVE_SYN)")
	}
	s := FromPicture(p, clock, nil)
	if !Connected(s.State) || s.State == SynSent || s.State == SynRecv || s.State == TimeWait {
		return nil, errHeld("it is in state %d", s.State)
	}
	in := &Waiting{Stream: &Stream{State: s.State, Entry: s.Entry}}
	if err := in.readQueue(q.mem, t); err != nil {
		return nil, err
	}
	if m := markOf(t); m != nil && m.Offset < s.Entry.GetInqLen() {
		s.Mark = m
	}
	out, err := q.unacknowledged(t, s, w[sockmem.SndUna])
	if err != nil {
		return nil, err
	}
	s.Entry.OutqLen = proto.Uint32(uint32(len(out)))
	unsent := w[sockmem.WriteSeq] - w[sockmem.SndNxt]
	if unsent > 0 {
		unsent -= one(s.ownFin())
	}
	s.Entry.UnsqLen = &unsent
	s.Queues = append(in.Queues, out...)
	s.forgetAsked()
	s.readSent(t)
	return s, nil
}

// Left returns what waits to be read of such a connection that has ended, of which
// nothing changes any more.
func (q *Queues) Left(sk kmem.Addr) ([]byte, error) {
	t, err := q.mem.Struct("tcp_sock", sk)
	if err != nil {
		return nil, err
	}
	w := &Waiting{Stream: &Stream{State: Closed, Entry: &tcp_stream.TcpStreamEntry{InqSeq: proto.Uint32(t.U32("tcp_sock.rcv_nxt"))}}}
	err = w.readQueue(q.mem, t)
	return w.Queues, err
}

// unacknowledged reads what waits to be acknowledged, or to be sent, from a byte on.
func (q *Queues) unacknowledged(t *kmem.Struct, s *Stream, next uint32) (data []byte, err error) {
	take := func(b *kmem.Buffer) error {
		from := binary.NativeEndian.Uint32(b.Raw("sk_buff.cb", 4)) // struct tcp_skb_cb
		skip := next - from
		if after(from, next) {
			return errMoved
		}
		if int(skip) < len(b.Data) {
			data = append(data, b.Data[skip:]...)
			next += uint32(len(b.Data)) - skip
		}
		return nil
	}
	if err := q.sentBelow(t.Pointer("sock.tcp_rtx_queue"), 0, take); err != nil {
		return nil, err
	}
	if err := q.mem.Buffers(t.At+q.mem.Off("sock.sk_write_queue"), mostPieces, take); err != nil {
		return nil, err
	}
	end := s.Entry.GetOutqSeq()
	if end != next {
		end -= one(s.ownFin()) // it wasn't acknowledged
	}
	if end != next {
		return nil, errMoved
	}
	return data, nil
}

// mostDeep is more than how deep a tree of segments that were sent is.
const mostDeep = 64

// sentBelow calls fn with what was sent and is below a node of the kernel's tree, in order.
func (q *Queues) sentBelow(node kmem.Addr, deep int, fn func(*kmem.Buffer) error) error {
	if node == 0 {
		return nil
	}
	if deep > mostDeep {
		return errMoved
	}
	b, err := q.mem.Buffer(node - q.mem.Off("sk_buff.rbnode"))
	if err != nil {
		return err
	}
	at := q.mem.Off("sk_buff.rbnode")
	pointer := func(name string) kmem.Addr {
		return kmem.Addr(binary.NativeEndian.Uint64(b.Bytes[at+q.mem.Off(name):]))
	}
	if err := q.sentBelow(pointer("rb_node.rb_left"), deep+1, fn); err != nil {
		return err
	}
	if err := fn(b); err != nil {
		return err
	}
	return q.sentBelow(pointer("rb_node.rb_right"), deep+1, fn)
}

// Congestion returns the name of a congestion control, by its address.
func (q *Queues) Congestion(ops kmem.Addr) ([]byte, error) {
	name := make([]byte, congestionSize)
	return name, q.mem.ReadAt(name, ops+q.mem.Off("tcp_congestion_ops.name"))
}
