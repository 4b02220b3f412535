package unix

import (
	"errors"
	"fmt"
	"slices"
	"sort"

	sys "golang.org/x/sys/unix"

	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/sockdiag"
)

// maxCuts is into how many buffers a queue is taken apart: each takes a few
// system calls.
const maxCuts = 1 << 12

// uneven tells whether a stream that is sent again in these pieces takes
// another amount of the kernel's memory than it does: that decides when a
// writer has to wait.
func (k *Kind) uneven(u *sockdiag.Unix, messages []*message) (bool, error) {
	if u.Peer == 0 {
		return false, nil
	}
	peer, err := k.picture.get(u.Peer)
	if err != nil || peer == nil || !peer.HasMem {
		return false, err
	}
	sum := uint64(0)
	for _, m := range messages {
		if len(m.data) > maxPiece {
			return true, nil // that is several buffers, whichever they are
		}
		// Of urgent data that is read its buffer stays, which was of one byte.
		n, err := k.size(sys.SOCK_STREAM, max(len(m.data), 1))
		if err != nil {
			return false, err
		}
		sum += uint64(n)
	}
	return sum != uint64(peer.Mem.WmemAlloc), nil
}

// cut takes the pieces of a stream apart into the buffers that they are in.
func (s *stream) cut() error {
	wall, err := sys.Mmap(-1, 0, 1, sys.PROT_NONE, sys.MAP_PRIVATE|sys.MAP_ANONYMOUS)
	if err != nil {
		return fmt.Errorf("mmap: %w", err)
	}
	defer sys.Munmap(wall)                          //nolint:errcheck // it was mapped
	s.buf = make([]byte, min(len(s.buf), maxPiece)) // the other one has the messages
	c := &cutter{stream: s, wall: wall}
	var out []*message
	for _, m := range s.out {
		if m.urgent != 0 || len(m.rights) > 0 {
			out = append(out, m)
			continue
		}
		for from := 0; from < len(m.data); {
			n := len(m.data) - from
			if len(out) < maxCuts {
				if n, err = c.length(m.at+from, n); err != nil {
					return err
				}
			}
			out = append(out, &message{data: m.data[from : from+n], who: m.who})
			from += n
		}
	}
	s.out = out
	return nil
}

// cutter finds out how long buffers are: of one that doesn't fit into readable
// memory nothing is given out.
type cutter struct {
	*stream
	wall []byte
	last int // length of the one before: writers mostly write the same again
}

// length returns the length of the buffer at an offset, which is at most most.
func (c *cutter) length(at, most int) (int, error) {
	if whole := most; whole > maxPiece {
		most = maxPiece
		if n, err := c.fits(at, most); err != nil || n == 0 {
			most = whole // of pages that were spliced it may be longer
		}
	}
	if c.last > 1 && c.last <= most {
		n, err := c.fits(at, c.last)
		if err != nil {
			return 0, err
		}
		if n == c.last {
			if n, err = c.fits(at, c.last-1); err != nil || n == 0 {
				return c.last, err
			}
		}
	}
	var failed error
	n := 1 + sort.Search(most-1, func(i int) bool {
		n, err := c.fits(at, i+1)
		failed = errors.Join(failed, err)
		return n > 0
	})
	c.last = n
	return n, failed
}

// fits returns how many bytes of whole buffers from an offset on have room in n
// bytes.
func (c *cutter) fits(at, n int) (int, error) {
	if err := c.goTo(at); err != nil {
		return 0, err
	}
	if n > len(c.buf) {
		c.buf = make([]byte, n)
	}
	got, err := linux.PeekInto(c.fd, c.buf[:n], c.wall, peek)
	if errors.Is(err, sys.EFAULT) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("peek at its queue once more: %w", err)
	}
	return got, nil
}

// trace looks for urgent data that was read and that nothing is behind: only its
// place is in the queue, and the kernel counts no byte. It stays when the stream
// is shut down, or its peer is closed.
func (k *Kind) trace(l *look) error {
	if l.role == listener || l.role == alone || l.u.RQueue > 0 || k.queues[l.u.Ino] != nil || l.skip.seen && l.skip.buffers == 0 {
		return nil
	}
	events, err := poll(l.fd.Int(), sys.POLLIN)
	if err != nil || events&sys.POLLIN == 0 {
		return l.fail(err)
	}
	left, err := k.placesLeft(l)
	switch {
	case err != nil || left == 0:
		return l.fail(err)
	case l.role == abroad && k.strangers[l.u.Peer] != nil && k.strangers[l.u.Peer].name != nil:
		return l.refuse("where urgent data was (MSG_OOB) waits to be read, and its peer is outside of the tree, and would have to send that once more; let the process read")
	}
	q := &queued{}
	for range left {
		q.messages = append(q.messages, &message{urgent: urgentRead, peer: true})
	}
	k.queues[l.u.Ino] = q
	return nil
}

// placesLeft returns how many places there are at a socket with nothing else. Kernels
// before Linux 6.10 show none that is read by SIOCATMARK, but their memory does; and
// poll(2) tells of one if the stream goes on.
func (k *Kind) placesLeft(l *look) (int, error) {
	mark, err := atMark(l.fd.Int())
	if err != nil || mark {
		return 1, err
	}
	if known, err := k.marksRead(); known || err != nil {
		return 0, err
	}
	return k.placesShown(l)
}

// placesShown is placesLeft by memory.
func (k *Kind) placesShown(l *look) (int, error) {
	all, err := k.bufferLengths(l)
	if errors.Is(err, kmem.ErrUnavailable) {
		events, err := poll(l.fd.Int(), sys.POLLRDHUP)
		if err != nil || events&(sys.POLLRDHUP|sys.POLLHUP) != 0 {
			return 0, err
		}
		return 1, nil
	}
	n := slices.IndexFunc(all, func(n int) bool { return n > 0 })
	if n < 0 {
		n = len(all)
	}
	return n, err
}

// marksRead tells whether the kernel's SIOCATMARK shows where urgent data was that is read,
// or there is no such data.
func (k *Kind) marksRead() (bool, error) {
	if k.marking != nil {
		return *k.marking, nil
	}
	p, err := sys.Socketpair(sys.AF_UNIX, sys.SOCK_STREAM|sys.SOCK_CLOEXEC, 0)
	if err != nil {
		return false, fmt.Errorf("socketpair: %w", err)
	}
	defer sys.Close(p[0])
	defer sys.Close(p[1])
	b := []byte{0}
	err = sys.Sendmsg(p[0], b, nil, nil, sys.MSG_OOB)
	none := errors.Is(err, sys.EOPNOTSUPP)
	if err == nil {
		_, _, err = sys.Recvfrom(p[1], b, sys.MSG_OOB)
	}
	if err != nil && !none {
		return false, fmt.Errorf("send urgent data: %w", err)
	}
	mark, err := atMark(p[1])
	mark = mark || none
	k.marking = &mark
	return mark, err
}

// atMark tells whether urgent data is next, or where such was: sockatmark(3). Kernels
// without CONFIG_AF_UNIX_OOB have neither.
func atMark(fd int) (bool, error) {
	mark, err := sys.IoctlGetInt(fd, sys.SIOCATMARK)
	switch {
	case errors.Is(err, sys.EOPNOTSUPP), errors.Is(err, sys.ENOTTY), errors.Is(err, sys.EINVAL):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("SIOCATMARK: %w", err)
	}
	return mark != 0, nil
}
