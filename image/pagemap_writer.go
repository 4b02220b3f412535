package image

import (
	"fmt"

	"glis.dev/glis/image/criu/pagemap"
	"glis.dev/glis/image/proto"
)

// PagemapWriter writes a pagemap. The pages themselves are the caller's: those of
// ranges with PagePresent go to the pages file in the order of the Adds.
type PagemapWriter struct {
	w      *Writer
	last   Range
	end    uint64 // of the last range
	offset int64
	buf    []byte
}

// NewPagemapWriter makes the pagemap file of row r (Pagemap or PagemapShmem) with
// the given id (a PID, or a shmid). pagesID is the id of its pages file, which is
// for the caller to make: s.Create(Pages.FileName(pagesID)).
func NewPagemapWriter(s Store, r *Row, id uint64, pagesID uint32) (*PagemapWriter, error) {
	w, err := create(s, r, r.FileName64(id))
	if err != nil {
		return nil, err
	}
	p := &PagemapWriter{w: w}
	if err := w.Put(&pagemap.PagemapHead{PagesId: proto.Uint32(pagesID)}); err != nil {
		return nil, w.Close() // which returns err
	}
	return p, nil
}

// Add appends n pages at vaddr. Ranges come in ascending order; what adjoins the
// last one and has the same flags extends it.
func (p *PagemapWriter) Add(vaddr, n uint64, flags uint32) error {
	if n == 0 || p.w.err != nil {
		return p.w.err
	}
	r := Range{Vaddr: vaddr, Pages: n, Flags: flags}
	if err := p.check(r); err != nil {
		return p.w.fail(err)
	}
	p.end = r.End()
	if flags&PagePresent != 0 {
		p.offset += int64(n * PageSize)
	}
	if p.last.Pages > 0 && p.last.End() == vaddr && p.last.Flags == flags {
		p.last.Pages += n
		return nil
	}
	err := p.flush()
	p.last = r
	return err
}

func (p *PagemapWriter) check(r Range) error {
	if err := checkRange(r); err != nil {
		return err
	}
	if r.Vaddr < p.end {
		return fmt.Errorf("pages at %#x come after those up to %#x", r.Vaddr, p.end)
	}
	if r.Flags&^(PageParent|PageLazy|PagePresent) != 0 || r.Flags == 0 {
		return fmt.Errorf("pages at %#x have flags %#x", r.Vaddr, r.Flags)
	}
	return nil
}

func (p *PagemapWriter) flush() error {
	if p.last.Pages == 0 {
		return nil
	}
	p.buf = appendRange(p.buf[:0], p.last)
	p.last = Range{}
	return p.w.write(p.buf)
}

// Offset is where in the pages file the next present page goes, in bytes.
func (p *PagemapWriter) Offset() int64 { return p.offset }

// Close writes what is left and closes the file; it returns the first error of
// all calls.
func (p *PagemapWriter) Close() error {
	_ = p.flush() // the Writer keeps the error, Close returns it
	return p.w.Close()
}
