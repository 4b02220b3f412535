package mem

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"glis.dev/glis/image"
	"glis.dev/glis/internal/pages"
	"glis.dev/glis/internal/proc"
)

// Fill writes the task's pages into its mappings, which Map has made. pid is
// the task as the engine sees it. What the task has already, from its
// parent, is left alone, so that it stays shared.
func (s *Space) Fill(ctx context.Context, pid proc.PID, store image.Store) (Stats, error) {
	var st Stats
	if len(s.pieces) == 0 {
		return st, nil
	}
	todo, up := s.toWrite(&st)
	if len(todo) == 0 {
		return st, nil
	}
	compare := s.parent != nil && (s.extra&mmExtraCow == 0 || s.inheritsHuge())
	if !up && !compare {
		return st, s.fillOwn(ctx, pid, store, todo, &st)
	}
	own, err := openContents(store, s.PID)
	if err != nil {
		return st, err
	}
	defer own.close()
	if compare {
		if todo, err = s.compareContents(ctx, store, own, todo, &st); err != nil {
			return st, err
		}
	}
	for _, t := range todo {
		st.Restored += t.Len() / page
	}
	return st, pages.Fill(ctx, pid, own.cut(todo))
}

// fillOwn is Fill where all is in the task's own pages file and nothing has to
// be compared: the pagemap need not be read again.
func (s *Space) fillOwn(ctx context.Context, pid proc.PID, store image.Store, todo []pages.Span, st *Stats) error {
	f, err := store.Open(image.Pages.FileName(s.pagesID))
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // only read from
	from := s.pieces
	for some := range slices.Chunk(todo, runsAtOnce) {
		out := make([]pages.Piece, 0, len(some))
		for _, t := range some {
			st.Restored += t.Len() / page
			for t.Start < t.End {
				for from[0].end() <= t.Start {
					from = from[1:]
				}
				end := min(t.End, from[0].end())
				out = append(out, pages.Piece{Span: pages.Span{Start: t.Start, End: end}, From: f, Offset: from[0].offset() + int64(t.Start-from[0].start())})
				t.Start = end
			}
		}
		if err := pages.Fill(ctx, pid, out); err != nil {
			return err
		}
	}
	return nil
}

// runsAtOnce is how many runs of pages are made ready at a time: there may be a million.
const runsAtOnce = 1 << 15

// toWrite returns the parts of memory to write, ascending: all that is stored
// but the vdso, which is the kernel's, and what is known to be the parent's. up
// tells whether some of it is in a parent checkpoint.
func (s *Space) toWrite(st *Stats) (out []pages.Span, up bool) {
	out = make([]pages.Span, 0, len(s.pieces))
	for i := range s.areas {
		a := &s.areas[i]
		if !a.mapped() {
			continue
		}
		for _, p := range s.pieces[a.first:a.last] {
			n := len(out)
			if p.up() && a.from != nil && s.extra&mmExtraCow != 0 {
				out = s.uncovered(out, a, p.span(), st)
			} else {
				out = append(out, p.span())
			}
			up = up || p.up() && len(out) > n
		}
	}
	return out, up
}

// uncovered appends what of p the parent does not have.
func (s *Space) uncovered(out []pages.Span, a *area, p pages.Span, st *Stats) []pages.Span {
	at := p.Start
	for _, x := range s.parentPieces(a.from) {
		if x.end() <= at {
			continue
		}
		if x.start() >= p.End {
			break
		}
		if x.start() > at {
			out = append(out, pages.Span{Start: at, End: x.start()})
			at = x.start()
		}
		end := min(x.end(), p.End)
		st.SharedCow += (end - at) / page
		at = end
	}
	if at < p.End {
		out = append(out, pages.Span{Start: at, End: p.End})
	}
	return out
}

// contents is the open images of a task's pages.
type contents struct {
	pagemap  *image.PagemapFile
	resolved *image.Resolved
}

func openContents(store image.Store, pid uint32) (*contents, error) {
	m, err := image.OpenPagemap(store, image.Pagemap, uint64(pid))
	if err != nil {
		return nil, err
	}
	r, err := m.Resolve()
	if err != nil {
		_ = m.Close() // the first error is the one that matters
		return nil, err
	}
	return &contents{m, r}, nil
}

func (c *contents) close() {
	_ = c.resolved.Close() // only read from
	_ = c.pagemap.Close()
}

// cut returns where the contents of the spans, which are all stored, are.
func (c *contents) cut(spans []pages.Span) []pages.Piece {
	out := make([]pages.Piece, 0, len(spans))
	from := c.resolved.Pieces
	for _, s := range spans {
		for s.Start < s.End {
			for len(from) > 0 && from[0].End() <= s.Start {
				from = from[1:]
			}
			if len(from) == 0 || from[0].Vaddr >= s.End {
				break
			}
			start, end := max(s.Start, from[0].Vaddr), min(s.End, from[0].End())
			out = append(out, pages.Piece{Span: pages.Span{Start: start, End: end}, From: from[0].Source, Offset: from[0].Offset + int64(start-from[0].Vaddr)})
			s.Start = end
		}
	}
	return out
}

// compareContents takes from todo the pages that the parent has at the same
// place with the same contents, as criu does, which does not note what tasks
// share. Of huge pages Glis does not note it either: criu can't read those from
// a parent checkpoint.
func (s *Space) compareContents(ctx context.Context, store image.Store, own *contents, todo []pages.Span, st *Stats) ([]pages.Span, error) {
	its, err := openContents(store, s.parent.PID)
	if err != nil {
		return nil, err
	}
	defer its.close()
	c := &comparer{stats: st}
	var out []pages.Span
	for _, mine := range own.cut(todo) {
		a := s.at(mine.Start)
		if a == nil || a.from == nil || !a.private() || s.extra&mmExtraCow != 0 && !a.huge() {
			out = add(out, mine.Span)
			continue
		}
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		if out, err = c.compareOne(out, mine, its.cut([]pages.Span{mine.Span})); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// comparer holds pages of a task and of its parent.
type comparer struct {
	a, b  [compareMost]byte
	stats *Stats
}

// compareMost is how much is compared at a time, in bytes.
const compareMost = 64 * page

// compareOne appends what of mine differs from theirs.
func (c *comparer) compareOne(out []pages.Span, mine pages.Piece, theirs []pages.Piece) ([]pages.Span, error) {
	at := mine.Start
	for _, t := range theirs {
		if t.Start > at {
			out = add(out, pages.Span{Start: at, End: t.Start})
		}
		m := pages.Piece{Span: t.Span, From: mine.From, Offset: mine.Offset + int64(t.Start-mine.Start)}
		var err error
		if out, err = c.compareSame(out, m, t); err != nil {
			return nil, err
		}
		at = t.End
	}
	if at < mine.End {
		out = add(out, pages.Span{Start: at, End: mine.End})
	}
	return out, nil
}

// compareSame is compareOne for the same addresses.
func (c *comparer) compareSame(out []pages.Span, mine, theirs pages.Piece) ([]pages.Span, error) {
	for at := mine.Start; at < mine.End; at += compareMost {
		n := min(mine.End-at, compareMost)
		if _, err := mine.From.ReadAt(c.a[:n], mine.Offset+int64(at-mine.Start)); err != nil {
			return nil, fmt.Errorf("read the pages of %#x: %w", at, err)
		}
		if _, err := theirs.From.ReadAt(c.b[:n], theirs.Offset+int64(at-mine.Start)); err != nil {
			return nil, fmt.Errorf("read the parent's pages of %#x: %w", at, err)
		}
		for i := uint64(0); i < n; i += page {
			c.stats.Compared++
			if bytes.Equal(c.a[i:i+page], c.b[i:i+page]) {
				c.stats.SharedCow++
				continue
			}
			out = add(out, pages.Span{Start: at + i, End: at + i + page})
		}
	}
	return out, nil
}

// add appends p, to the last span if it adjoins that.
func add(out []pages.Span, p pages.Span) []pages.Span {
	if n := len(out); n > 0 && out[n-1].End == p.Start {
		out[n-1].End = p.End
		return out
	}
	return append(out, p)
}
