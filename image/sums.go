package image

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// ChunkSize is how many bytes of a file have one checksum of their own. It is
// as much as is copied in one go, so that each is summed while it is in a
// CPU's cache; a gigabyte of memory has 4 KiB of checksums.
const ChunkSize = 1 << 20

// ErrChecksum is an image that is not what the dump wrote.
var ErrChecksum = errors.New("it is not what the dump wrote; take another copy of the checkpoint")

// part is a run of bytes of a chunk and their checksum.
type part struct {
	from, to int // in the chunk
	sum      uint32
}

// chunk is what has been summed of one chunk: parts in order, that do not meet.
type chunk []part

// add adds a part. Of what was there before, nothing that overlaps it stays:
// half a part has no checksum.
func (c chunk) add(p part) chunk {
	c = slices.DeleteFunc(c, func(o part) bool { return o.from < p.to && p.from < o.to })
	i := 0
	for i < len(c) && c[i].from < p.from {
		i++
	}
	if i > 0 && c[i-1].to == p.from {
		before := c[i-1]
		p = part{before.from, p.to, joined(before.sum, p.sum, int64(p.to-p.from))}
		c = slices.Delete(c, i-1, i)
		i--
	}
	if i < len(c) && c[i].from == p.to {
		p = part{p.from, c[i].to, joined(p.sum, c[i].sum, int64(c[i].to-c[i].from))}
		c = slices.Delete(c, i, i+1)
	}
	return slices.Insert(c, i, p)
}

// whole returns the checksum if all of size bytes are in it.
func (c chunk) whole(size int) (sum uint32, ok bool) {
	if len(c) == 1 && c[0].from == 0 && c[0].to == size {
		return c[0].sum, true
	}
	return 0, false
}

// sums collects the checksums of a file that is written, or read, in pieces
// by several goroutines.
type sums struct {
	mu     sync.Mutex
	size   int64
	chunks []chunk
}

// eachPart calls f for the parts of b, which is at offset off of a file, in
// the chunks they belong to.
func eachPart(b []byte, off int64, f func(n int64, p part) error) error {
	for len(b) > 0 {
		n, from := off/ChunkSize, int(off%ChunkSize)
		size := min(len(b), ChunkSize-from)
		if err := f(n, part{from, from + size, checksum(0, b[:size])}); err != nil {
			return err
		}
		b, off = b[size:], off+int64(size)
	}
	return nil
}

// wrote notes that b was written at offset off.
func (s *sums) wrote(b []byte, off int64) {
	_ = eachPart(b, off, func(n int64, p part) error { // f never fails
		s.mu.Lock()
		defer s.mu.Unlock()
		s.grow(n)
		s.chunks[n] = s.chunks[n].add(p)
		return nil
	})
	s.reach(off + int64(len(b)))
}

func (s *sums) grow(n int64) {
	if more := n + 1 - int64(len(s.chunks)); more > 0 {
		s.chunks = append(s.chunks, make([]chunk, more)...)
	}
}

// reach notes how long the file is at least.
func (s *sums) reach(end int64) {
	s.mu.Lock()
	s.size = max(s.size, end)
	s.mu.Unlock()
}

// all returns the checksums of all chunks, if they are known.
func (s *sums) all() (out []uint32, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	count := chunksOf(s.size)
	if int64(len(s.chunks)) != count {
		return nil, count == 0
	}
	for i, c := range s.chunks {
		sum, ok := c.whole(chunkLen(s.size, int64(i)))
		if !ok {
			return nil, false
		}
		out = append(out, sum)
	}
	return out, true
}

// chunksOf is how many chunks a file of size bytes has.
func chunksOf(size int64) int64 { return (size + ChunkSize - 1) / ChunkSize }

// chunkLen is the length of chunk n of a file of size bytes.
func chunkLen(size, n int64) int { return int(min(ChunkSize, size-n*ChunkSize)) }

// checking compares a file that is read with what it should be.
type checking struct {
	name string
	want []uint32
	size int64

	mu     sync.Mutex
	chunks []chunk
	good   []bool // chunks that were seen whole
	left   int    // chunks that were not

	// Most files have one chunk.
	oneChunk [1]chunk
	oneGood  [1]bool
}

func (c *checking) begin(name string, size int64, want []uint32) {
	c.name, c.want, c.size, c.left = name, want, size, len(want)
	if len(want) == 1 {
		c.chunks, c.good = c.oneChunk[:], c.oneGood[:]
	} else {
		c.chunks, c.good = make([]chunk, len(want)), make([]bool, len(want))
	}
}

// readAndAsk is read that tells whether all of the file has been seen.
func (c *checking) readAndAsk(b []byte, off int64) (whole bool, err error) {
	if err := c.read(b, off); err != nil {
		return false, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.left == 0, nil
}

// read takes note of b, which was read at offset off.
func (c *checking) read(b []byte, off int64) error { return eachPart(b, off, c.part) }

func (c *checking) part(n int64, p part) error {
	if n >= int64(len(c.want)) {
		return &Error{File: c.name, Offset: n*ChunkSize + int64(p.from), Err: fmt.Errorf("bytes behind its end: %w", ErrChecksum)}
	}
	size := chunkLen(c.size, n)
	if p.from == 0 && p.to == size { // also one that was seen before
		return c.compare(n, p.sum)
	}
	c.mu.Lock()
	if c.good[n] {
		c.mu.Unlock()
		return nil
	}
	c.chunks[n] = c.chunks[n].add(p)
	sum, whole := c.chunks[n].whole(size)
	c.mu.Unlock()
	if !whole {
		return nil
	}
	return c.compare(n, sum)
}

// wrongSum says that chunk n of a file, of so many bytes, is not what it was.
func wrongSum(file string, n int64, size int, got, want uint32) error {
	return &Error{File: file, Offset: n * ChunkSize, Err: fmt.Errorf("checksum of %d bytes is %08x instead of %08x: %w", size, got, want, ErrChecksum)}
}

func (c *checking) compare(n int64, sum uint32) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if sum != c.want[n] {
		return wrongSum(c.name, n, chunkLen(c.size, n), sum, c.want[n])
	}
	if !c.good[n] {
		c.good[n], c.chunks[n] = true, nil
		c.left--
	}
	return nil
}

// rest returns the chunks that were not seen whole.
func (c *checking) rest() []int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left == 0 {
		return nil
	}
	out := make([]int64, 0, c.left)
	for n, good := range c.good {
		if !good {
			out = append(out, int64(n))
		}
	}
	return out
}

// eachChunk calls f for 0…n-1, with a buffer that holds a chunk of a file of
// size bytes, on all CPUs.
func eachChunk(n int, size int64, f func(i int, buf []byte) error) error {
	var g errgroup.Group
	var next atomic.Int64
	work := func() error {
		buf := make([]byte, min(size, ChunkSize))
		for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
			if err := f(i, buf); err != nil {
				return err
			}
		}
		return nil
	}
	for range min(n, runtime.GOMAXPROCS(0)) - 1 {
		g.Go(work)
	}
	if n == 0 {
		return nil
	}
	err := work()
	if other := g.Wait(); err == nil {
		err = other
	}
	return err
}
