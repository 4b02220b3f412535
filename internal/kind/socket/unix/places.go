package unix

import (
	"errors"
	"slices"

	sys "golang.org/x/sys/unix"

	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/sockmem"
)

// bufferLengths returns how long the buffers of a stream's queue are, 0 where urgent
// data was that is read. Errors may be kmem.ErrUnavailable.
func (k *Kind) bufferLengths(l *look) ([]int, error) {
	m, err := k.mem.Reader()
	if err != nil {
		return nil, err
	}
	at, err := m.Sock(l.fd.Int())
	if err != nil {
		return nil, err
	}
	return sockmem.Lengths(m, at)
}

// exactly makes sure of how much there is, if an error waits behind it: a peek that
// goes on to the end takes the error away. Kernels that keep count (as they have
// SO_INQ, Linux 6.17) count urgent data, too, that a reader has stepped over.
func (s *stream) exactly() error {
	if s.told {
		return errNotPlain
	}
	all, err := s.lengths()
	switch {
	case errors.Is(err, kmem.ErrUnavailable) && keepsCount():
		return errBehind
	case errors.Is(err, kmem.ErrUnavailable):
		return nil
	case err != nil:
		return err
	}
	sum := 0
	for _, n := range all {
		sum += n
	}
	s.total = min(s.total, sum)
	return nil
}

// keepsCount tells whether the kernel has SO_INQ, which can be set only.
func keepsCount() bool {
	n, err := sys.Socket(sys.AF_UNIX, sys.SOCK_STREAM|sys.SOCK_CLOEXEC, 0)
	if err != nil {
		return true // to be on the safe side
	}
	defer sys.Close(n)
	return sys.SetsockoptInt(n, sys.SOL_SOCKET, soInq, 1) == nil
}

// refine takes the pieces of a stream apart into the buffers that they are in,
// if a sender has used another amount of memory for it. Some places of urgent
// data don't end a peek: those in front of such that waits, and one that nothing
// is behind. But a read(2) ends there later. The kernel's memory shows them.
func (s *stream) refine() error {
	uneven, err := s.uneven(s.out)
	deserted := s.look.u.Peer == 0 // nobody is there whose memory would tell
	if err != nil || !uneven && !s.waits && !deserted {
		return err
	}
	if s.told {
		return errNotPlain
	}
	all, err := s.lengths()
	switch {
	case err == nil && !uneven && !slices.Contains(all, 0):
		return nil
	case err == nil:
		s.divide(all)
		return nil
	case !errors.Is(err, kmem.ErrUnavailable):
		return err
	case uneven:
		return s.cut()
	}
	return nil
}

// divide takes pieces apart into buffers of these lengths.
func (s *stream) divide(lengths []int) {
	d := &divider{lengths: lengths}
	for _, m := range s.out {
		if m.urgent != urgentRead {
			d.add(m)
		}
	}
	d.places()
	s.out = d.out
}

// maxDivided is into how many buffers a queue is taken apart that the kernel's memory
// shows: more than a sender can have filled unless it may have buffers beyond limits.
const maxDivided = 1 << 16

// divider takes a stream apart.
type divider struct {
	lengths []int // of what is left
	out     []*message
}

// places adds the places of urgent data that come next.
func (d *divider) places() {
	for len(d.lengths) > 0 && d.lengths[0] == 0 {
		d.lengths = d.lengths[1:]
		d.out = append(d.out, &message{urgent: urgentRead})
	}
}

func (d *divider) add(m *message) {
	for data := m.data; len(data) > 0; {
		d.places()
		part := *m
		part.data = data[:d.next(len(data), m.urgent != 0 || len(m.rights) > 0)]
		data = data[len(part.data):]
		d.out = append(d.out, &part)
	}
}

// next takes what comes next of at most most bytes: a buffer, all of them, or
// all up to a place if there are too many.
func (d *divider) next(most int, whole bool) (n int) {
	many := len(d.out) >= maxDivided
	for n < most && len(d.lengths) > 0 && (n == 0 || whole || many && d.lengths[0] > 0) {
		took := min(most-n, d.lengths[0])
		n += took
		if d.lengths[0] -= took; d.lengths[0] == 0 {
			d.lengths = d.lengths[1:]
		}
	}
	if len(d.lengths) == 0 {
		return most // an outsider may have sent more meanwhile
	}
	return n
}
