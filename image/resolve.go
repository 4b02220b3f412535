package image

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
)

// Piece is a run of pages that lie together in one pages file.
type Piece struct {
	Vaddr  uint64
	Pages  uint64
	Source ReadFile // nil: the pages are not in any file, see Lazy
	Offset int64    // in Source, bytes
	Lazy   bool     // the range may be filled in later
	Depth  int      // 0: this checkpoint, 1: its parent, and so on
}

// End is the address behind the last byte.
func (p Piece) End() uint64 { return p.Vaddr + p.Pages*PageSize }

// Resolved says where every page of a pagemap is, parents included.
type Resolved struct {
	Pieces []Piece // by address, without overlap
	levels []*PagemapFile
}

// Close closes the pages files of parent checkpoints. Those of the pagemap that
// was resolved are closed with that. There may be none.
func (r *Resolved) Close() error {
	if r == nil {
		return nil
	}
	var errs []error
	for _, p := range r.levels {
		errs = append(errs, p.Close())
	}
	r.levels = nil
	return errors.Join(errs...)
}

// Whole calls f for every range of pages, by address, if all are in this checkpoint
// itself or in none; not ok otherwise, and then nobody has been called. It is Resolve
// for who needs no list of what may be half a million pieces.
func (p *PagemapFile) Whole(f func(Piece) error) (ok bool, err error) {
	for i := range p.Ranges {
		if p.Ranges[i].Flags&PageParent != 0 {
			return false, nil
		}
	}
	var one Resolved
	for _, r := range p.Ranges {
		one.Pieces = one.Pieces[:0]
		if err := one.add(p, r, r.Flags&PageLazy != 0); err != nil {
			return true, err
		}
		if err := f(one.Pieces[0]); err != nil {
			return true, err
		}
	}
	return true, nil
}

// Resolve follows the ranges that are in parent checkpoints down to the pages
// files that have them. A page that a parent should have and has not is an
// error. Close the result after use, before p.
func (p *PagemapFile) Resolve() (*Resolved, error) {
	out := &Resolved{}
	c := chain{at: p.store}
	defer c.close()
	for level, want := p, p.Ranges; ; {
		rest, err := out.take(level, want)
		if err != nil {
			return nil, errors.Join(err, out.Close())
		}
		if len(rest) == 0 {
			out.tidy()
			return out, nil
		}
		if level, err = p.parent(&c, rest[0]); err != nil {
			return nil, errors.Join(err, out.Close())
		}
		out.levels = append(out.levels, level)
		want = rest
	}
}

// parent opens the pagemap of the same object in the next checkpoint up.
func (p *PagemapFile) parent(c *chain, need Range) (*PagemapFile, error) {
	if err := c.up(); err != nil {
		return nil, fileError(p.Name, fmt.Errorf("pages at %#x are in the parent checkpoint: %w", need.Vaddr, err))
	}
	up, err := OpenPagemap(c.at, p.row, p.id)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("pages at %#x are in the parent checkpoint, which lacks them: %w", need.Vaddr, err)
	}
	if err != nil {
		return nil, fileError(p.Name, fmt.Errorf("parent checkpoint %s: %w", c.at, err))
	}
	return up, nil
}

// take adds the pieces of want that level itself has, and returns those that are
// in its parent. Both lists are sorted, so one pass is enough.
func (r *Resolved) take(level *PagemapFile, want []Range) (rest []Range, err error) {
	have := level.Ranges
	for _, w := range want {
		for at := w.Vaddr; at < w.End(); {
			for len(have) > 0 && have[0].End() <= at {
				have = have[1:]
			}
			if len(have) == 0 || have[0].Vaddr > at {
				return nil, fileError(level.Name, fmt.Errorf("no page at %#x in %s, which should have it", at, level.store))
			}
			part := cut(have[0], at, w.End())
			at = part.End()
			if part.Flags&PageParent != 0 {
				// Whether pages are lazy is decided here, not by the parent.
				part.Flags = PageParent | w.Flags&PageLazy
				rest = append(rest, part)
				continue
			}
			if err := r.add(level, part, w.Flags&PageLazy != 0); err != nil {
				return nil, err
			}
		}
	}
	return rest, nil
}

// cut returns the part of r from address from, which is in it, up to at most to.
func cut(r Range, from, to uint64) Range {
	end := min(r.End(), to)
	if r.Flags&PagePresent != 0 {
		r.Offset += int64(from - r.Vaddr)
	}
	r.Vaddr, r.Pages = from, (end-from)/PageSize
	return r
}

// add adds a part of level.
func (r *Resolved) add(level *PagemapFile, part Range, lazy bool) error {
	piece := Piece{Vaddr: part.Vaddr, Pages: part.Pages, Lazy: lazy, Depth: len(r.levels)}
	switch {
	case part.Flags&PagePresent != 0:
		piece.Source, piece.Offset = level.pages, part.Offset
	case part.Flags&PageLazy == 0:
		return fileError(level.Name, fmt.Errorf("flags %#x of the pages at %#x do not say where they are", part.Flags, part.Vaddr))
	}
	r.Pieces = append(r.Pieces, piece)
	return nil
}

// tidy sorts the pieces and joins those that lie together.
func (r *Resolved) tidy() {
	slices.SortFunc(r.Pieces, func(a, b Piece) int {
		if a.Vaddr < b.Vaddr {
			return -1
		}
		return 1
	})
	joined := r.Pieces[:0]
	for _, p := range r.Pieces {
		if n := len(joined); n > 0 && joined[n-1].adjoins(p) {
			joined[n-1].Pages += p.Pages
			continue
		}
		joined = append(joined, p)
	}
	r.Pieces = joined
}

func (p Piece) adjoins(next Piece) bool {
	if p.End() != next.Vaddr || p.Source != next.Source || p.Lazy != next.Lazy || p.Depth != next.Depth {
		return false
	}
	return p.Source == nil || p.Offset+int64(p.Pages*PageSize) == next.Offset
}
