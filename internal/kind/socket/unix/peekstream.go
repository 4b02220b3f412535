package unix

import (
	"bytes"
	"errors"
	"fmt"

	sys "golang.org/x/sys/unix"

	"glis.dev/glis/internal/linux"
)

// stream reads a stream in pieces: one ends where other credentials begin,
// after what descriptors come along with, and before urgent data.
func (q *peeker) stream() ([]*message, error) {
	total := int(q.look.u.RQueue)
	// Messages are parts of it: what was peeked at is never peeked at again but as
	// it was.
	if !q.far {
		q.buf = make([]byte, total)
	} else if err := q.makeFar(total); err != nil {
		return nil, err
	}
	s := &stream{peeker: q, total: total}
	events, err := poll(q.fd, sys.POLLPRI)
	if err != nil {
		return nil, err
	}
	s.waits = events&sys.POLLPRI != 0
	if events&sys.POLLERR != 0 {
		if err := s.exactly(); err != nil {
			return nil, err
		}
	}
	if err := s.head(); err != nil {
		return nil, err
	}
	for s.at < s.total {
		if err := s.look.env.Check(); err != nil {
			return nil, err
		}
		if err := s.piece(); err != nil {
			return nil, err
		}
	}
	if s.waits && !s.found {
		return nil, errBetween
	}
	err = s.refine()
	return s.out, err
}

// stream is a walk through the pieces of a stream.
type stream struct {
	*peeker
	total int
	at    int  // bytes that are done
	base  int  // bytes that the kernel doesn't count when it looks for an offset
	waits bool // there is urgent data
	found bool // and it is among out
	out   []*message
}

// head looks at the beginning, which may be urgent data or where such was: it
// is only told of the first byte (sockatmark(3)).
func (s *stream) head() error {
	mark, err := atMark(s.fd)
	if err != nil || !mark {
		return err
	}
	s.found = true
	if !s.waits {
		s.out = append(s.out, &message{urgent: urgentRead})
		return nil
	}
	var b [1]byte
	p, err := s.next(b[:], sys.MSG_OOB)
	if err == nil && p != nil {
		s.base = 1 // a reader who doesn't ask for it steps over it
		p, err = s.inline(b[:])
	} else if errors.Is(err, sys.EINVAL) { // it is read in line
		p, err = s.next(b[:], 0)
	}
	if err != nil || p == nil {
		return errors.Join(err, fmt.Errorf("peek at urgent data"))
	}
	if err := closeAll(p.rights); err != nil {
		return err
	}
	s.out = append(s.out, &message{data: bytes.Clone(b[:]), urgent: urgentWaits, who: p.who})
	s.at = 1
	return nil
}

// inline peeks at urgent data in front as a reader does who gets it in line: only
// such a one is told who sent it.
func (s *stream) inline(b []byte) (*peeked, error) {
	option := linux.SockOpt{Level: sys.SOL_SOCKET, Name: sys.SO_OOBINLINE}
	if g := s.look.env.Guard; g != nil {
		if err := g.Back(s.look.file, option); err != nil {
			return nil, err
		}
	}
	on := option
	on.Value = 1
	if err := errors.Join(on.Set(s.fd), s.seek(0)); err != nil {
		return nil, errors.Join(err, option.Set(s.fd))
	}
	p, err := s.next(b, 0)
	return p, errors.Join(err, option.Set(s.fd))
}

func (s *stream) goTo(at int) error { return s.seek(at - s.base) }

// piece reads the next piece.
func (s *stream) piece() error {
	if err := s.goTo(s.at); err != nil {
		return err
	}
	p, err := s.next(s.buf[s.at:], 0)
	if err != nil {
		return err
	}
	if p == nil || p.n == 0 {
		// Linux 6.18 also counts urgent data that a reader stepped over.
		s.total = s.at
		return nil
	}
	from, end := s.at, s.at+p.n
	if len(p.rights) > 0 {
		if from, err = s.begin(p); err != nil {
			return errors.Join(err, closeAll(p.rights))
		}
	}
	if from > s.at {
		s.out = append(s.out, &message{data: s.buf[s.at:from:from], who: p.who, at: s.at})
	}
	files, err := s.receive(p.rights)
	if err != nil {
		return err
	}
	s.out = append(s.out, &message{data: s.buf[from:end:end], who: p.who, rights: files, at: from})
	s.at = end
	// Only one can wait, but several can have been read.
	if len(files) == 0 && end < s.total && !(s.waits && s.found) {
		return s.mark()
	}
	return nil
}

// begin finds the byte that the descriptors of a piece come along with. The
// kernel has them with a buffer (struct sk_buff), of which the piece's end is
// the end; whatever is peeked at before it, they come along. But of a buffer
// that doesn't fit into readable memory nothing is given out, so that a peek
// ends where it begins.
func (s *stream) begin(p *peeked) (int, error) {
	if err := s.goTo(s.at); err != nil {
		return 0, err
	}
	wall, err := sys.Mmap(-1, 0, 1, sys.PROT_NONE, sys.MAP_PRIVATE|sys.MAP_ANONYMOUS)
	if err != nil {
		return 0, fmt.Errorf("mmap: %w", err)
	}
	defer sys.Munmap(wall) //nolint:errcheck // it was mapped
	n, err := linux.PeekInto(s.fd, s.buf[s.at:s.at+p.n-1], wall, peek)
	if errors.Is(err, sys.EFAULT) {
		return s.at, nil
	}
	if err != nil || n >= p.n {
		return 0, errors.Join(err, fmt.Errorf("peek at its queue once more: %d bytes of %d", n, p.n))
	}
	return s.at + n, nil
}

// mark looks whether a piece ended because of urgent data behind it, and takes
// that.
func (s *stream) mark() error {
	cred := linux.SockOpt{Level: sys.SOL_SOCKET, Name: sys.SO_PASSCRED}
	on := cred
	on.Value = 1
	if err := errors.Join(cred.Set(s.fd), s.goTo(s.at-1)); err != nil {
		return errors.Join(err, on.Set(s.fd))
	}
	var b [2]byte
	r, err := linux.Recvmsg(s.fd, b[:], nil, nil, peek)
	if err := errors.Join(err, on.Set(s.fd)); err != nil {
		return fmt.Errorf("peek at its queue: %w", err)
	}
	if r.N != 1 {
		return nil
	}
	if err := s.goTo(s.at); err != nil {
		return err
	}
	p, err := s.next(b[:1], 0)
	if err != nil {
		return fmt.Errorf("peek at urgent data: %w", err)
	}
	if p == nil || p.n != 1 {
		s.total = s.at // it counts urgent data that a reader stepped over (Linux 6.18)
		return nil
	}
	s.found = true
	if err := closeAll(p.rights); err != nil || !s.waits {
		s.out = append(s.out, &message{urgent: urgentRead})
		return err
	}
	s.out = append(s.out, &message{data: bytes.Clone(b[:1]), urgent: urgentWaits, who: p.who})
	s.at++
	return nil
}
