package unix

import (
	"errors"
	"fmt"
	"math"
	"sort"

	sys "golang.org/x/sys/unix"
)

// sender fills the queue of a socket from its peer's end.
type sender struct {
	fd     int
	raised bool // its buffer size isn't what it was
}

// send sends one message; in a stream, bytes that may be split.
func (s *sender) send(data []byte, stream bool) error {
	for first := true; first || stream && len(data) > 0; first = false {
		n, err := sys.SendmsgN(s.fd, data, nil, nil, sys.MSG_DONTWAIT|sys.MSG_NOSIGNAL)
		full := errors.Is(err, sys.EAGAIN) || errors.Is(err, sys.EMSGSIZE) || errors.Is(err, sys.ENOBUFS)
		if full && !s.raised {
			if err := s.raise(); err != nil {
				return err
			}
			n, err = sys.SendmsgN(s.fd, data, nil, nil, sys.MSG_DONTWAIT|sys.MSG_NOSIGNAL)
		}
		if err != nil {
			return fmt.Errorf("queue %d bytes anew: %w", len(data), err)
		}
		data = data[n:]
	}
	if len(data) > 0 {
		return fmt.Errorf("queue a message anew: %d bytes of it are left over", len(data))
	}
	return nil
}

// refill is what is to be queued at a socket.
type refill struct {
	typ    int
	data   [][]byte
	memory uint32 // bytes of the kernel's that it took at its sender
}

// send queues it from one end so that it is to be read at the other. A stream
// comes in as few pieces as possible; if its sender had used more memory for
// it, which decides when a writer blocks, it is sent again in smaller pieces.
func (r *refill) send(k *Kind, from *sender, to int) error {
	if err := r.sendIn(from, math.MaxInt); err != nil || r.typ != sys.SOCK_STREAM || len(r.data) == 0 {
		return err
	}
	took, err := unread(from.fd)
	if err != nil || took >= r.memory {
		return err
	}
	piece, err := r.piece(k)
	if err != nil {
		return err
	}
	if err := discard(to); err != nil {
		return err
	}
	return r.sendIn(from, piece)
}

func (r *refill) sendIn(from *sender, piece int) error {
	for _, m := range r.data {
		for first := true; first || len(m) > 0; first = false {
			n := len(m)
			if r.typ == sys.SOCK_STREAM {
				n = min(n, piece)
			}
			if err := from.send(m[:n], r.typ == sys.SOCK_STREAM); err != nil {
				return err
			}
			m = m[n:]
		}
	}
	return nil
}

// piece returns the largest size of pieces that together take at least the
// memory that is wanted.
func (r *refill) piece(k *Kind) (int, error) {
	total := 0
	for _, m := range r.data {
		total += len(m)
	}
	var failed error
	// From n bytes a piece on it is too little.
	n := sort.Search(min(total, maxPiece), func(n int) bool {
		size, err := k.size(sys.SOCK_STREAM, n+1)
		failed = errors.Join(failed, err)
		return uint64(size)*uint64((total+n)/(n+1)) < uint64(r.memory)
	})
	return max(n, 1), failed
}

// maxPiece is more than the kernel ever puts into one piece.
const maxPiece = 64 << 10

// discard reads away everything that is queued in a stream.
func discard(fd int) error {
	buf := make([]byte, 64<<10)
	for {
		_, _, err := sys.Recvfrom(fd, buf, sys.MSG_DONTWAIT)
		if errors.Is(err, sys.EAGAIN) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read back what was queued: %w", err)
		}
	}
}

// raise makes the buffer as large as is allowed: what was queued may have been
// sent while it was larger than it is now.
func (s *sender) raise() error {
	s.raised = true
	err := sys.SetsockoptInt(s.fd, sys.SOL_SOCKET, sys.SO_SNDBUFFORCE, math.MaxInt32/2)
	if errors.Is(err, sys.EPERM) {
		err = sys.SetsockoptInt(s.fd, sys.SOL_SOCKET, sys.SO_SNDBUF, math.MaxInt32/2)
	}
	if err != nil {
		return fmt.Errorf("raise SO_SNDBUF: %w", err)
	}
	return nil
}

// touched are the options that filling a queue may have changed at the sender.
func (s *sender) touched() []string {
	if !s.raised {
		return nil
	}
	return []string{"SO_SNDBUF", "SO_BUF_LOCK"}
}
