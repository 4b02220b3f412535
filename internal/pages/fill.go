package pages

import (
	"context"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/arch"
	"glis.dev/glis/internal/proc"
)

// Piece is a part of a task's memory and where its contents are.
type Piece struct {
	Span
	From   io.ReaderAt
	Offset int64
}

// Fill writes pieces (ascending) into the memory of a stopped task. What lies
// in mappings that the task may not write is written through /proc/PID/mem.
func Fill(ctx context.Context, pid proc.PID, pieces []Piece) error {
	total := uint64(0)
	for _, p := range pieces {
		total += p.Len()
	}
	if total == 0 {
		return nil
	}
	f := filler{pid: pid}
	g := gatherer{rest: pieces, chunk: chunkOf(total)}
	err := parallel(ctx, total, nil, g.next, f.write)
	return errors.Join(err, f.mem.close())
}

// gatherer puts together pieces whose contents lie one behind the other in
// one file, and cuts them into chunks.
type gatherer struct {
	chunk uint64 // of this size
	rest  []Piece
	skip  uint64 // of the first of rest
}

// chunk is contents that are read in one go and where each part goes.
type chunk struct {
	from   io.ReaderAt
	offset int64
	size   uint64
	to     []unix.RemoteIovec
}

func (g *gatherer) next() (chunk, bool) {
	if len(g.rest) == 0 {
		return chunk{}, false
	}
	c := chunk{from: g.rest[0].From, offset: g.rest[0].Offset + int64(g.skip)}
	for len(g.rest) > 0 && len(c.to) < mostSpans && c.size < g.chunk {
		p := &g.rest[0]
		if p.From != c.from || p.Offset+int64(g.skip) != c.offset+int64(c.size) {
			break
		}
		n := min(p.Len()-g.skip, g.chunk-c.size)
		c.to = append(c.to, unix.RemoteIovec{Base: uintptr(p.Start + g.skip), Len: int(n)})
		c.size += n
		if g.skip += n; g.skip == p.Len() {
			g.rest, g.skip = g.rest[1:], 0
		}
	}
	return c, true
}

type filler struct {
	pid proc.PID
	mem memFile
}

func (f *filler) write(c chunk, buf []byte) error {
	buf = buf[:c.size]
	if _, err := c.from.ReadAt(buf, c.offset); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("read pages at offset %d: %w", c.offset, err)
	}
	most := arch.PageSize
	to := c.to
	for len(buf) > 0 {
		local := []unix.Iovec{{Base: &buf[0]}}
		local[0].SetLen(len(buf))
		n, err := unix.ProcessVMWritev(int(f.pid), local, to, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil && err != unix.EFAULT {
			return fmt.Errorf("task %d: write memory at %#x: %w", f.pid, to[0].Base, err)
		}
		buf, to = advance(buf, to, max(n, 0))
		if len(buf) == 0 {
			return nil
		}
		step := min(to[0].Len, most)
		if err := f.mem.write(f.pid, buf[:step], uint64(to[0].Base)); err != nil {
			return err
		}
		buf, to = advance(buf, to, step)
		most *= 2
	}
	return nil
}
