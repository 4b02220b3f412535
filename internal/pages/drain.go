package pages

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/arch"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/warm"
)

// Output is where pages go.
type Output interface{ io.WriterAt }

// Lender is an Output that may have memory for what is written to it.
type Lender interface {
	// Lend returns memory for n bytes at offset off, which are taken for
	// written; nil if it has none.
	Lend(off int64, n int) []byte
}

// Source is the pages of one task that go, one behind the other, into one
// file, from offset At on.
type Source struct {
	PID   proc.PID
	Spans []Span
	To    Output
	At    int64

	bytes   uint64
	mem     memFile
	pagemap procFile
}

// Hook sees every chunk that was copied and where in its file it is. It is
// called by several goroutines.
type Hook func(s *Source, chunk []byte, off int64) error

// Buffer returns memory for Drain that has been touched: the kernel takes longer
// to find a page than Drain to fill it. It is small, so that little is touched;
// where there is much to copy, Drain gets itself more.
func Buffer() []byte {
	room := make([]byte, writeSize)
	warm.Written(room)
	return room
}

// Drain copies the pages of stopped tasks. room (from Buffer) and hook may be
// nil.
func Drain(ctx context.Context, all []*Source, room []byte, hook Hook) error {
	total := uint64(0)
	for _, s := range all {
		s.bytes = 0
		for _, x := range s.Spans {
			s.bytes += x.Len()
		}
		total += s.bytes
	}
	if total == 0 {
		return nil
	}
	err := drain(ctx, all, total, room, hook)
	for _, s := range all {
		err = errors.Join(err, s.mem.close(), s.pagemap.close())
	}
	return err
}

func drain(ctx context.Context, all []*Source, total uint64, room []byte, hook Hook) error {
	if lent := lend(all, total); lent != nil && hook == nil {
		return all[0].into(ctx, lent)
	}
	c := cutter{sources: all, chunk: chunkOf(total)}
	return parallel(ctx, total, room, c.next, func(p part, buf []byte) error {
		return p.copy(buf, hook)
	})
}

// lend returns memory for all that is to be copied, if there is some already.
func lend(all []*Source, total uint64) []byte {
	l, ok := all[0].To.(Lender)
	if len(all) > 1 || !ok || total > Chunk*4 {
		return nil
	}
	return l.Lend(all[0].At, int(total))
}

// into copies all pages of a source into memory.
func (s *Source) into(ctx context.Context, to []byte) error {
	c := cutter{sources: []*Source{s}, chunk: Chunk}
	for p, ok := c.next(); ok; p, ok = c.next() {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if err := s.read(p.remote(), to[:p.size]); err != nil {
			return err
		}
		to = to[p.size:]
	}
	return nil
}

// part is a chunk of a source: the first span begins skip bytes late, size
// bytes are wanted in all.
type part struct {
	source *Source
	spans  []Span
	skip   uint64
	size   uint64
	off    int64
}

// cutter cuts sources into parts.
type cutter struct {
	chunk   uint64 // of this size
	sources []*Source
	rest    []Span
	skip    uint64 // of the first of rest
	off     int64
	begun   bool
}

func (c *cutter) next() (part, bool) {
	for {
		if len(c.sources) == 0 {
			return part{}, false
		}
		if !c.begun {
			c.rest, c.skip, c.off, c.begun = c.sources[0].Spans, 0, c.sources[0].At, true
		}
		if len(c.rest) > 0 {
			return c.cut(), true
		}
		c.sources, c.begun = c.sources[1:], false
	}
}

func (c *cutter) cut() part {
	p := part{source: c.sources[0], skip: c.skip, off: c.off}
	n := 0
	for n < len(c.rest) && n < mostSpans && p.size < c.chunk {
		left := c.rest[n].Len() - c.skip
		take := min(left, c.chunk-p.size)
		p.size += take
		if take < left {
			c.skip += take
			p.spans = c.rest[:n+1]
			c.rest = c.rest[n:]
			c.off += int64(p.size)
			return p
		}
		c.skip = 0
		n++
	}
	p.spans, c.rest = c.rest[:n], c.rest[n:]
	c.off += int64(p.size)
	return p
}

// remote returns the part as process_vm_readv(2) takes it.
func (p *part) remote() []unix.RemoteIovec {
	out := make([]unix.RemoteIovec, len(p.spans))
	skip, left := p.skip, p.size
	for i, s := range p.spans {
		n := min(s.Len()-skip, left)
		out[i] = unix.RemoteIovec{Base: uintptr(s.Start + skip), Len: int(n)}
		skip, left = 0, left-n
	}
	return out
}

func (p *part) copy(buf []byte, hook Hook) error {
	buf = buf[:p.size]
	if err := p.source.read(p.remote(), buf); err != nil {
		return err
	}
	if err := write(p.source.To, buf, p.off); err != nil {
		return fmt.Errorf("write pages of task %d: %w", p.source.PID, err)
	}
	if hook != nil {
		return hook(p.source, buf, p.off)
	}
	return nil
}

// read fills buf from the task.
func (s *Source) read(from []unix.RemoteIovec, buf []byte) error {
	alone, err := s.exclusive(from, buf)
	if err != nil {
		return err
	}
	if !alone {
		return s.readMem(from, buf)
	}
	most := arch.PageSize
	for len(buf) > 0 {
		local := []unix.Iovec{{Base: &buf[0]}}
		local[0].SetLen(len(buf))
		n, err := unix.ProcessVMReadv(int(s.PID), local, from, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil && err != unix.EFAULT {
			return fmt.Errorf("task %d: read memory at %#x: %w", s.PID, from[0].Base, err)
		}
		buf, from = advance(buf, from, max(n, 0))
		if len(buf) == 0 {
			return nil
		}
		// What the task itself may not read is read through /proc/PID/mem, a
		// page at first and then more at a time.
		step := min(from[0].Len, most)
		if err := s.mem.read(s.PID, buf[:step], uint64(from[0].Base)); err != nil {
			return err
		}
		buf, from = advance(buf, from, step)
		most = min(2*most, mostSlow)
	}
	return nil
}

// mostSlow is how much is read through /proc/PID/mem at once, in bytes.
const mostSlow = 1 << 20

// pmExclusive marks a page that one process alone has, in a pagemap word.
const pmExclusive = 1 << 56

// exclusive tells whether nobody else has any of the pages. It uses buf as
// scratch.
//
// process_vm_readv(2), the faster way to read, pins pages, and since Linux 6.0
// that gives the task a copy of its own of an anonymous page that it shares
// with a fork: its memory would grow by being read.
func (s *Source) exclusive(from []unix.RemoteIovec, buf []byte) (bool, error) {
	fd, err := s.pagemap.open(s.PID, "pagemap", unix.O_RDONLY)
	if err != nil {
		return false, err
	}
	alone := true
	for len(from) > 0 && alone {
		n := neighbours(from)
		run := from[:n]
		from = from[n:]
		last := run[n-1]
		all := Span{uint64(run[0].Base), uint64(last.Base) + uint64(last.Len)}
		err := words(fd, all, buf, func(at, w uint64) {
			for uint64(run[0].Base)+uint64(run[0].Len) <= at {
				run = run[1:]
			}
			if at >= uint64(run[0].Base) && w&(pmExclusive|linux.PM_SWAP|linux.PM_FILE) == 0 {
				alone = false
			}
		})
		if err != nil {
			return false, fmt.Errorf("task %d: %w", s.PID, err)
		}
	}
	return alone, nil
}

// neighbours returns how many of the first parts are so close together that
// the words between them cost less than another call.
func neighbours(from []unix.RemoteIovec) int {
	const near = 32 * arch.PageSize
	n := 1
	for n < len(from) && from[n].Base-from[n-1].Base-uintptr(from[n-1].Len) <= near {
		n++
	}
	return n
}

// readMem is read through /proc/PID/mem.
func (s *Source) readMem(from []unix.RemoteIovec, buf []byte) error {
	for _, r := range from {
		if err := s.mem.read(s.PID, buf[:r.Len], uint64(r.Base)); err != nil {
			return err
		}
		buf = buf[r.Len:]
	}
	return nil
}

// advance drops the first n bytes.
func advance(buf []byte, from []unix.RemoteIovec, n int) ([]byte, []unix.RemoteIovec) {
	buf = buf[n:]
	for n > 0 {
		k := min(n, from[0].Len)
		from[0].Base += uintptr(k)
		from[0].Len -= k
		n -= k
		if from[0].Len == 0 {
			from = from[1:]
		}
	}
	return buf, from
}

// procFile is a file of /proc/PID, opened when it is first needed.
type procFile struct {
	mu sync.Mutex
	fd int
	ok bool
}

func (m *procFile) open(pid proc.PID, name string, flags int) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ok {
		return m.fd, nil
	}
	path := fmt.Sprintf("/proc/%d/%s", pid, name)
	n, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open %s: %w", path, err)
	}
	m.fd, m.ok = n, true
	return n, nil
}

func (m *procFile) close() error {
	if !m.ok {
		return nil
	}
	m.ok = false
	return unix.Close(m.fd)
}

// memFile is /proc/PID/mem: it reads and writes whatever the protection of a
// page says, and never unshares what it reads.
type memFile struct{ procFile }

func (m *memFile) read(pid proc.PID, buf []byte, at uint64) error {
	fd, err := m.open(pid, "mem", unix.O_RDWR)
	if err != nil {
		return err
	}
	for len(buf) > 0 {
		n, err := unix.Pread(fd, buf, int64(at))
		switch {
		case err == unix.EINTR:
			continue
		case err == nil && n == 0:
			err = unix.ESRCH
		}
		if err != nil {
			return fmt.Errorf("task %d: the page at %#x can't be read (a guard region on a kernel before 6.15, or broken memory): %w", pid, at, err)
		}
		buf, at = buf[n:], at+uint64(n)
	}
	return nil
}

func (m *memFile) write(pid proc.PID, buf []byte, at uint64) error {
	fd, err := m.open(pid, "mem", unix.O_RDWR)
	if err != nil {
		return err
	}
	for len(buf) > 0 {
		n, err := unix.Pwrite(fd, buf, int64(at))
		switch {
		case err == unix.EINTR:
			continue
		case err == nil && n == 0:
			err = unix.ESRCH
		}
		if err != nil {
			return fmt.Errorf("task %d: write memory at %#x: %w", pid, at, err)
		}
		buf, at = buf[n:], at+uint64(n)
	}
	return nil
}
