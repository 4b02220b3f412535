package tcp

import (
	"encoding/binary"
	"errors"
	"fmt"

	tcp_stream "glis.dev/glis/image/criu/tcp-stream"
	"glis.dev/glis/image/proto"
	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/linux"
)

// Options that a connection has agreed upon (TCPI_OPT_*, linux/tcp.h).
const (
	optTimestamps = 1
	optSACK       = 2
	optWscale     = 4
	optECN        = 8
	optECNSeen    = 16
	optUsecStamps = 64 // Linux 6.7
)

// The queues of TCP_REPAIR_QUEUE, linux/tcp.h.
const (
	noQueue   = 0
	recvQueue = 1
	sendQueue = 2
)

// Stream is one end of a connection.
type Stream struct {
	State int
	Entry *tcp_stream.TcpStreamEntry
	// Queues is what waits to be read, and then what was not acknowledged yet;
	// the end of that was not sent yet.
	Queues []byte
	// Later is, at a restore, what gives Queues for as long as they are needed; nil: they
	// are there.
	Later func(use func(queues []byte) error) error
	Mark  *Mark // urgent data, nil if there is none
	// Sent is how many bytes of what was not acknowledged yet the urgent one is the
	// last of, 0 if none is urgent.
	Sent uint32
	Pace *Pace // nil if it is that of a new connection
	Came Came
	// Cork is, at a restore, its TCP_CORK.
	Cork int
}

// Quiet are the options that end repair mode without a packet. It leaves
// SO_REUSEADDR off: what it was is in reuse.
func Quiet(reuse int) []linux.SockOpt {
	out := []linux.SockOpt{{Level: unix.IPPROTO_TCP, Name: unix.TCP_REPAIR, Value: unix.TCP_REPAIR_OFF_NO_WP}}
	if reuse != 0 {
		out = append(out, linux.SockOpt{Level: unix.SOL_SOCKET, Name: unix.SO_REUSEADDR, Value: reuse})
	}
	return out
}

// Repair begins repair mode, in which the queues and numbers of a connection
// can be read and written, and a close is silent: see TCP_REPAIR in linux/tcp.h.
// It needs CAP_NET_ADMIN.
func Repair() linux.SockOpt {
	return linux.SockOpt{Level: unix.IPPROTO_TCP, Name: unix.TCP_REPAIR, Value: unix.TCP_REPAIR_ON}
}

// attempts is how often a connection is read that changes meanwhile. What was
// on its way when its packets were locked arrives within microseconds.
const attempts = 100

// Read reads an end of a connection that is in repair mode. A packet that comes
// in between would leave numbers that don't fit each other, so it reads again
// until none did. Where urgent data waits to be read, what waits is left to Marked.
func Read(fd int, urgent bool) (*Stream, error) {
	for range attempts {
		before, err := readInfo(fd)
		if err != nil {
			return nil, err
		}
		s, err := readOnce(fd, &before, urgent)
		if errors.Is(err, errMoved) {
			continue
		}
		if err != nil {
			return nil, err
		}
		after, err := readInfo(fd)
		if err != nil {
			return nil, err
		}
		if before == after {
			return s, nil
		}
	}
	return nil, errRestless
}

// errMoved says that a queue changed while it was read, errRestless that it did so each time.
var (
	errMoved    = errors.New("a queue of the connection changed")
	errRestless = errors.New("packets kept coming while the connection was read: are they held back (--network-lock)?")
)

// info is the part of struct tcp_info (linux/tcp.h) that tells what a
// connection has agreed upon, and whether packets came or went.
type info struct {
	state, options, wscales uint8
	bytesAcked, received    uint64
	segsOut, segsIn         uint32
	threshold, window       uint32
}

func readInfo(fd int) (info, error) {
	const upToSegsIn = 144 // Linux 4.2
	var b [upToSegsIn]byte
	n, err := linux.Getsockopt(fd, unix.IPPROTO_TCP, unix.TCP_INFO, b[:])
	if err != nil {
		return info{}, fmt.Errorf("read TCP_INFO: %w", err)
	}
	if n < len(b) {
		return info{}, fmt.Errorf("read TCP_INFO: the kernel tells %d bytes only", n)
	}
	ne := binary.NativeEndian
	return info{b[0], b[5], b[6], ne.Uint64(b[120:]), ne.Uint64(b[128:]), ne.Uint32(b[136:]), ne.Uint32(b[140:]), ne.Uint32(b[76:]), ne.Uint32(b[80:])}, nil
}

// stampOf has a time stamp not say that it counts µs, which it does to Linux 6.7 and later if
// it is odd, and doesn't to those before.
func stampOf(stamp, options uint32) uint32 {
	if options&optUsecStamps == 0 {
		stamp += stamp & usecStamps
	}
	return stamp
}

func readOnce(fd int, i *info, urgent bool) (*Stream, error) {
	e := &tcp_stream.TcpStreamEntry{OptMask: proto.Uint32(uint32(i.options)), SndWscale: proto.Uint32(uint32(i.wscales & 15))}
	if i.options&optWscale != 0 {
		e.RcvWscale = proto.Uint32(uint32(i.wscales >> 4))
	}
	var err error
	if e.MssClamp, err = number(fd, "TCP_MAXSEG", unix.TCP_MAXSEG); err != nil {
		return nil, err
	}
	if i.options&optTimestamps != 0 {
		if e.Timestamp, err = number(fd, "TCP_TIMESTAMP", unix.TCP_TIMESTAMP); err != nil {
			return nil, err
		}
		*e.Timestamp = stampOf(*e.Timestamp, uint32(i.options))
	}
	s := &Stream{State: int(i.state), Entry: e, Pace: &Pace{Window: i.window, Threshold: i.threshold}}
	if i.options&optECN != 0 { // more is for who can look closer: see ReadECN
		s.Pace.ECN = ecnOK
	}
	queues := func(fd int) error { return s.readQueues(fd, urgent) }
	for _, f := range []func(int) error{s.readWindow, s.readNumbers, queues} {
		if err := f(fd); err != nil {
			return nil, err
		}
	}
	s.forgetAsked()
	forgetAhead(s.Entry)
	return s, nil
}

func number(fd int, name string, opt int) (*uint32, error) {
	v, err := unix.GetsockoptInt(fd, unix.IPPROTO_TCP, opt)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return proto.Uint32(uint32(v)), nil
}

const windowSize = 20 // struct tcp_repair_window

// readWindow reads how much each end may send. See TCP_REPAIR_WINDOW in
// linux/tcp.h (Linux 4.8).
func (s *Stream) readWindow(fd int) error {
	var b [windowSize]byte
	if _, err := linux.Getsockopt(fd, unix.IPPROTO_TCP, unix.TCP_REPAIR_WINDOW, b[:]); err != nil {
		return fmt.Errorf("read TCP_REPAIR_WINDOW: %w", err)
	}
	e := s.Entry
	for i, at := range []**uint32{&e.SndWl1, &e.SndWnd, &e.MaxWindow, &e.RcvWnd, &e.RcvWup} {
		*at = proto.Uint32(binary.NativeEndian.Uint32(b[4*i:]))
	}
	return nil
}

// forgetAhead has the window told where the peer's data goes on, if it was told behind all that
// the peer may send: with data out of order, before there was no memory for what belongs in front
// of that, upon which the kernel shuts its window at once. A restore could not set it. That data
// is sent again, so it is as if the window had come with what is next.
func forgetAhead(e *tcp_stream.TcpStreamEntry) {
	if after(e.GetSndWl1(), e.GetInqSeq()+e.GetRcvWnd()) {
		e.SndWl1 = proto.Uint32(e.GetInqSeq())
	}
}

// readNumbers reads sequence numbers: of what is to be written next, and of what
// comes next. It leaves the receive queue chosen.
func (s *Stream) readNumbers(fd int) (err error) {
	for _, q := range []struct {
		queue int
		seq   **uint32
	}{{sendQueue, &s.Entry.OutqSeq}, {recvQueue, &s.Entry.InqSeq}} {
		if err := choose(fd, q.queue); err != nil {
			return err
		}
		if *q.seq, err = number(fd, "TCP_QUEUE_SEQ", unix.TCP_QUEUE_SEQ); err != nil {
			return err
		}
	}
	return nil
}

// choose says which queue the next calls are about.
func choose(fd, queue int) error { return chooseBy(linux.Hand{}, fd, queue) }

func chooseBy(h linux.Hand, fd, queue int) error {
	if err := h.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_REPAIR_QUEUE, queue); err != nil {
		return fmt.Errorf("set TCP_REPAIR_QUEUE to %d: %w", queue, err)
	}
	return nil
}
