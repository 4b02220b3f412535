package tcp

import (
	"bytes"

	tcp_stream "glis.dev/glis/image/criu/tcp-stream"
	"glis.dev/glis/internal/sockmem"
)

// numbers is an entry with room for what it points to.
type numbers struct {
	entry tcp_stream.TcpStreamEntry
	room  [14]uint32
	pace  Pace
}

// compact returns an entry like e but for TCP_CORK and TCP_NODELAY, which options
// tell, in one piece of memory.
func compact(e *tcp_stream.TcpStreamEntry) *tcp_stream.TcpStreamEntry {
	n := new(struct {
		entry tcp_stream.TcpStreamEntry
		room  [15]uint32
	})
	from, to := pointers(e), pointers(&n.entry)
	for i, p := range from {
		if *p != nil {
			n.room[i] = **p
			*to[i] = &n.room[i]
		}
	}
	return &n.entry
}

// pointers returns where an entry has its numbers.
func pointers(e *tcp_stream.TcpStreamEntry) [15]**uint32 {
	return [15]**uint32{
		&e.InqLen, &e.InqSeq, &e.OutqLen, &e.OutqSeq, &e.UnsqLen, &e.OptMask, &e.SndWscale, &e.RcvWscale, &e.MssClamp,
		&e.SndWl1, &e.SndWnd, &e.MaxWindow, &e.RcvWnd, &e.RcvWup, &e.Timestamp,
	}
}

// usecStamps is a bit of TCP_TIMESTAMP that doesn't belong to the clock: it says
// that time stamps count µs, not ms (Linux 6.7).
const usecStamps = 1

// ClockOf returns what the clock of time stamps shows, by what TCP_TIMESTAMP
// says of a connection that counts ms, and the connection's own offset. It is
// rather late than early, so that no time stamp goes back.
func ClockOf(stamp, offset uint32) uint32 { return (stamp | usecStamps) - offset }

// Room is memory for a Stream that From makes.
type Room struct {
	numbers numbers
	stream  Stream
}

// FromPicture is Room.From with memory of its own.
func FromPicture(p *sockmem.Picture, clock uint32, unread []byte) *Stream {
	return new(Room).From(p, clock, unread)
}

// From is Read for an ESTABLISHED connection whose memory in the kernel is known,
// with an empty send queue; clock is what time stamps show besides the connection's
// own offset. It is valid until the next call.
func (r *Room) From(p *sockmem.Picture, clock uint32, unread []byte) *Stream {
	w, n := &p.Word, &r.numbers
	*n = numbers{pace: Pace{Window: w[sockmem.SndCwnd], Threshold: w[sockmem.SndSsthresh], ECN: w[sockmem.EcnFlags]}}
	e, used := &n.entry, 0
	set := func(at **uint32, v uint32) {
		n.room[used] = v
		*at = &n.room[used]
		used++
	}
	options, shift := agreedECN(w[sockmem.EcnFlags]), uint32(0)
	if w[sockmem.TstampOK] != 0 {
		options |= optTimestamps
		set(&e.Timestamp, (clock+w[sockmem.Tsoffset]+usecStamps)&^usecStamps)
	}
	if w[sockmem.SackOK] != 0 {
		options |= optSACK
	}
	if w[sockmem.WscaleOK] != 0 {
		options |= optWscale
		shift = w[sockmem.SndWscale]
		set(&e.RcvWscale, w[sockmem.RcvWscale])
	}
	set(&e.OptMask, options)
	set(&e.SndWscale, shift)
	for _, x := range []struct {
		at   **uint32
		word sockmem.Word
	}{
		{&e.MssClamp, sockmem.MssClamp}, {&e.SndWl1, sockmem.SndWl1}, {&e.SndWnd, sockmem.SndWnd}, {&e.MaxWindow, sockmem.MaxWindow},
		{&e.RcvWnd, sockmem.RcvWnd}, {&e.RcvWup, sockmem.RcvWup}, {&e.OutqSeq, sockmem.WriteSeq}, {&e.InqSeq, sockmem.RcvNxt},
	} {
		set(x.at, w[x.word])
	}
	set(&e.InqLen, uint32(len(unread)))
	set(&e.OutqLen, 0)
	e.UnsqLen = e.OutqLen
	forgetAhead(e)
	r.stream = Stream{State: int(w[sockmem.State]), Entry: e, Queues: unread, Pace: &n.pace, Came: CameBy(p)}
	return &r.stream
}

// agreedECN is what TCP_INFO tells of ecn_flags.
func agreedECN(flags uint32) (options uint32) {
	if flags&(ecnOK|ecnAccurate) != 0 {
		options |= optECN
	}
	if flags&ecnSeen != 0 {
		options |= optECNSeen
	}
	return options
}

// Peek reads all that waits to be read, which must be as much as there is room
// for, and leaves it where it is.
func Peek(fd int, into []byte) error { return look(fd, recvQueue, into) }

// Numbers are what was read but for the time stamp; -1 where there is none.
func (s *Stream) Numbers() [15]int64 {
	e := s.Entry
	out := [15]int64{int64(s.State)}
	for i, p := range []*uint32{
		e.InqLen, e.InqSeq, e.OutqLen, e.OutqSeq, e.UnsqLen, e.OptMask, e.SndWscale, e.RcvWscale, e.MssClamp,
		e.SndWl1, e.SndWnd, e.MaxWindow, e.RcvWnd, e.RcvWup,
	} {
		out[i+1] = -1
		if p != nil {
			out[i+1] = int64(*p)
		}
	}
	return out
}

// Same tells whether two readings of a connection are the same but for the time
// between them.
func (s *Stream) Same(o *Stream) bool {
	a, b := s.Entry.Timestamp, o.Entry.Timestamp
	if (a == nil) != (b == nil) || s.Numbers() != o.Numbers() || !bytes.Equal(s.Queues, o.Queues) {
		return false
	}
	later := int32(s.Entry.GetTimestamp() - o.Entry.GetTimestamp())
	p, q := s.Pace, o.Pace
	return later > -minute && later < minute && p.Window == q.Window && p.Threshold == q.Threshold && p.ECN == q.ECN && s.Came == o.Came
}

// minute is how long a dump may stand between two readings, in ms.
const minute = 60_000
