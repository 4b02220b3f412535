package unix

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	sys "golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind"
)

// What is in a queue is known before any of it is written, since what comes along with a
// message may be a file of the tree. Of many long streams that would be more than there is
// to be in memory. So of such only the lengths of their pieces are kept, as pieces of
// memory that the kernel was told to forget, and they are peeked at once more when they
// are put into images.
const (
	longQueue   = 512 << 10 // bytes of one
	keptOfQueue = 8 << 20   // bytes of all long ones that are kept for all that
)

// isFar tells whether only lengths are to be kept of a queue.
func (k *Kind) isFar(total int) bool {
	if total < longQueue {
		return false
	}
	k.kept += total
	return k.kept > keptOfQueue
}

// makeFar gets memory for a queue that is far.
func (q *peeker) makeFar(total int) (err error) {
	if q.buf, err = sys.Mmap(-1, 0, total, sys.PROT_READ|sys.PROT_WRITE, sys.MAP_PRIVATE|sys.MAP_ANONYMOUS); err != nil {
		return fmt.Errorf("memory for a queue of %d bytes: %w", total, err)
	}
	q.region = q.buf
	return nil
}

// forget has the kernel forget what was peeked at. What is more than a plain stream is
// kept, in other memory.
func (q *peeker) forget(messages []*message) error {
	if !slices.ContainsFunc(messages, func(m *message) bool { return m.urgent != 0 || len(m.rights) > 0 }) {
		if err := sys.Madvise(q.region, sys.MADV_DONTNEED); err != nil {
			return fmt.Errorf("madvise: %w", err)
		}
		return nil
	}
	for _, m := range messages {
		m.data = bytes.Clone(m.data)
	}
	return q.release()
}

// release gives the memory back.
func (q *peeker) release() error {
	region := q.region
	q.region = nil
	if region == nil {
		return nil
	}
	return sys.Munmap(region)
}

// fetch peeks once more at a queue that is far: its messages are whole then.
func (k *Kind) fetch(l *look, q *queued) (err error) {
	p := &peeker{look: l, fd: l.fd.Int(), rooms: &k.rooms}
	defer p.drop()
	p.findRoom()
	defer func() { err = errors.Join(err, p.restore()) }()
	if err := p.adjust(); err != nil {
		return err
	}
	for at := 0; at < q.length; {
		if err := p.seek(at); err != nil {
			return err
		}
		r, err := p.next(q.region[at:q.length], 0)
		if err != nil {
			return err
		}
		if r == nil || r.n == 0 || len(r.rights) > 0 {
			var rights error
			if r != nil {
				rights = closeAll(r.rights)
			}
			return errors.Join(fmt.Errorf("its queue changed while it was read"), rights)
		}
		at += r.n
	}
	return nil
}

// putFar is putQueue for a queue that is far.
func (k *Kind) putFar(l *look, q *queued) error {
	if err := k.fetch(l, q); err != nil {
		return l.fail(err)
	}
	writer, ok := l.env.Images.(kind.Spiller)
	for _, m := range q.messages {
		if !ok {
			m.data = bytes.Clone(m.data)
		}
		if err := k.putMessage(l, m); err != nil {
			return err
		}
	}
	if ok {
		if err := writer.Spill(); err != nil {
			return err
		}
	}
	for _, m := range q.messages {
		m.data = nil
	}
	return q.release()
}

// release gives back the memory of a queue that is far. There may be none.
func (q *queued) release() error {
	region := q.region
	q.region = nil
	if region == nil {
		return nil
	}
	return sys.Munmap(region)
}

// lengthOf is how many bytes messages have.
func lengthOf(messages []*message) (sum int) {
	for _, m := range messages {
		sum += len(m.data)
	}
	return sum
}
