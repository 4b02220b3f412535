package pages

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/internal/arch"
)

// Shared memory and memfds are files whose contents are saved like memory:
// pagemap-shmem-ID.img, addresses being offsets.

// DataSpans returns the parts of a file that hold data, in whole pages, see
// SEEK_DATA in lseek(2). The position of fd changes.
func DataSpans(fd int, size uint64) ([]Span, error) {
	var out []Span
	for at := int64(0); uint64(at) < size; {
		start, err := unix.Seek(fd, at, unix.SEEK_DATA)
		if err == unix.ENXIO {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("seek data: %w", err)
		}
		end, err := unix.Seek(fd, start, unix.SEEK_HOLE)
		if err != nil {
			return nil, fmt.Errorf("seek hole: %w", err)
		}
		s := Span{uint64(start) &^ (arch.PageSize - 1), (uint64(end) + arch.PageSize - 1) &^ (arch.PageSize - 1)}
		out = append(out, s)
		at = int64(s.End)
	}
	return out, nil
}

// File is the pages of an open file that go into an image.
type File struct {
	From  io.ReaderAt
	Size  uint64 // in bytes; behind it the last page is filled up with zeros
	Spans []Span
	To    Output
}

// DrainFile copies the contents of a file, as Drain does of a task's memory.
func DrainFile(ctx context.Context, f *File) error {
	total := uint64(0)
	for _, s := range f.Spans {
		total += s.Len()
	}
	c := cutter{sources: []*Source{{Spans: f.Spans}}, chunk: chunkOf(total)}
	return parallel(ctx, total, nil, c.next, func(p part, buf []byte) error { return f.copy(&p, buf) })
}

func (f *File) copy(p *part, buf []byte) error {
	buf = buf[:p.size]
	at := buf
	for _, v := range p.remote() {
		b := at[:v.Len]
		at = at[v.Len:]
		n := min(uint64(v.Len), f.Size-min(f.Size, uint64(v.Base)))
		clear(b[n:])
		if got, err := f.From.ReadAt(b[:n], int64(v.Base)); uint64(got) < n {
			return fmt.Errorf("read shared memory at %#x: %w", v.Base, err)
		}
	}
	if err := write(f.To, buf, p.off); err != nil {
		return fmt.Errorf("write pages: %w", err)
	}
	return nil
}

// FillFile gives a file of shared memory, or a memfd, of size bytes its
// contents from pagemap-shmem-ID.img. If there is no such image the file was
// empty. An image with contents behind size is broken.
func FillFile(ctx context.Context, s image.Store, id uint64, size uint64, to Output) error {
	m, err := image.OpenPagemap(s, image.PagemapShmem, id)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer m.Close() //nolint:errcheck // only read from
	r, err := m.Resolve()
	if err != nil {
		return err
	}
	defer r.Close() //nolint:errcheck // only read from
	total := uint64(0)
	for _, p := range r.Pieces {
		if p.Vaddr >= size || p.End() > (size+arch.PageSize-1)&^(arch.PageSize-1) {
			return fmt.Errorf("%s: page at %#x is behind the end of the file, %d bytes", m.Name, p.Vaddr, size)
		}
		if p.Source == nil {
			return fmt.Errorf("%s: the page at %#x is in no file: it was to be fetched later from a page server", m.Name, p.Vaddr)
		}
		total += p.Pages * arch.PageSize
	}
	g := gatherer{rest: fromImage(r.Pieces), chunk: chunkOf(total)}
	return parallel(ctx, total, nil, g.next, func(c chunk, buf []byte) error { return c.toFile(buf, size, to) })
}

func fromImage(all []image.Piece) []Piece {
	out := make([]Piece, len(all))
	for i, p := range all {
		out[i] = Piece{Span{p.Vaddr, p.End()}, p.Source, p.Offset}
	}
	return out
}

func (c *chunk) toFile(buf []byte, size uint64, to Output) error {
	buf = buf[:c.size]
	if _, err := c.from.ReadAt(buf, c.offset); err != nil && err != io.EOF {
		return fmt.Errorf("read pages at offset %d: %w", c.offset, err)
	}
	for _, v := range c.to {
		n := min(uint64(v.Len), size-uint64(v.Base))
		if err := write(to, buf[:n], int64(v.Base)); err != nil {
			return fmt.Errorf("write shared memory at %#x: %w", v.Base, err)
		}
		buf = buf[v.Len:]
	}
	return nil
}

// FD is a descriptor as an io.ReaderAt and io.WriterAt. It does not own it.
type FD int

// ReadAt implements io.ReaderAt by pread(2).
func (f FD) ReadAt(b []byte, off int64) (int, error) {
	done := 0
	for done < len(b) {
		n, err := unix.Pread(int(f), b[done:], off+int64(done))
		switch {
		case err == unix.EINTR:
		case err != nil:
			return done, err
		case n == 0:
			return done, io.EOF
		default:
			done += n
		}
	}
	return done, nil
}

// WriteAt implements io.WriterAt by pwrite(2).
func (f FD) WriteAt(b []byte, off int64) (int, error) {
	done := 0
	for done < len(b) {
		n, err := unix.Pwrite(int(f), b[done:], off+int64(done))
		if err != nil && err != unix.EINTR {
			return done, err
		}
		done += max(n, 0)
	}
	return done, nil
}
