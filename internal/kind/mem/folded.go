package mem

import (
	"bytes"
	"encoding/binary"

	"glis.dev/glis/internal/pages"
	"glis.dev/glis/internal/plan"
)

// Of thousands of tasks the descriptions of all their memory would take most of what the
// engine has. Only a few are looked at at a time, so the others are folded: put down
// as numbers, a tenth as large.

// folded is areas, what was found in them or is stored of them, and guard regions.
type folded struct {
	b   []byte
	exe uint32 // of a frozen task: number of the executable's file
}

// Fold puts a frozen task's space down in little memory. The one before it may be nil;
// they share what they have in common. A space that others than List and Pages look at
// stays as it is, as do others the second time.
func (s *Space) Fold(before *Space) {
	for i := range s.areas {
		if s.areas[i].is(statusSysVIPC) || s.areas[i].is(statusAIORing) {
			return
		}
	}
	if s.folded != nil || s.Entry == nil {
		return
	}
	s.folded = &folded{exe: s.Entry.GetExeFileId()}
	s.Entry = nil
	if before != nil && bytes.Equal(s.auxv, before.auxv) {
		s.auxv = before.auxv
	}
	s.fold()
}

// Keep folds a space of a restore, or one that was unfolded, as it is now. One with rings
// of asynchronous I/O stays as it is.
func (s *Space) Keep() {
	if s.HasRings() {
		s.folded = nil
		return
	}
	s.folded = &folded{}
	s.fold()
}

// Made is Keep once the mappings are made and all children are there: only Finish is to
// come.
func (s *Space) Made() {
	s.pieces = nil
	for i := range s.areas {
		s.areas[i].first, s.areas[i].last, s.areas[i].from = 0, 0, nil
	}
	s.Keep()
}

func (s *Space) fold() {
	n := numbers{}
	n.put(uint64(len(s.areas)))
	for i := range s.areas {
		a := &s.areas[i]
		n.span(a.Span)
		n.put(a.offset, uint64(a.prot), uint64(a.flags), uint64(a.status), uint64(a.file), uint64(a.access), a.madvise, a.extra, uint64(a.segment), uint64(a.now), a.advised, uint64(a.last-a.first), uint64(len(a.name)))
		n.b = append(n.b, a.name...)
	}
	n.at = 0
	n.put(uint64(len(s.found)))
	for i := range s.found {
		n.span(s.found[i].Span)
		n.put(uint64(s.found[i].area))
	}
	n.at = 0
	n.put(uint64(len(s.guard)))
	for _, g := range s.guard {
		n.span(g)
	}
	n.at = 0
	n.put(uint64(len(s.pieces)))
	for i := range s.pieces {
		p := &s.pieces[i]
		n.span(p.span())
		up := uint64(0)
		if p.up() {
			up = 1
		}
		n.put(uint64(p.offset())<<1 | up)
	}
	s.folded.b = bytes.Clone(n.b)
	s.refold()
}

func (s *Space) refold() { s.areas, s.found, s.guard, s.pieces = nil, nil, nil, nil }

// Unfold has a folded space be as it was, until the function is called that it returns, or
// Keep. What was changed meanwhile stays only then.
func (s *Space) Unfold() (fold func()) { return s.unfold() }

func (s *Space) unfold() (fold func()) {
	if s.folded == nil || s.folded.b == nil || s.areas != nil {
		return func() {}
	}
	n := numbers{b: s.folded.b}
	s.areas = make([]area, n.next())
	at := 0 // among pieces
	for i := range s.areas {
		a := &s.areas[i]
		a.Span = n.nextSpan()
		a.offset, a.prot, a.flags, a.status = n.next(), uint32(n.next()), uint32(n.next()), uint32(n.next())
		a.file, a.access, a.madvise, a.extra = plan.ID(n.next()), uint32(n.next()), n.next(), n.next()
		a.segment, a.now, a.advised = uint32(n.next()), uint32(n.next()), n.next()
		a.first, at = at, at+int(n.next())
		a.last = at
		size := n.next()
		a.name, n.b = string(n.b[:size]), n.b[size:]
	}
	n.at = 0
	s.found = make([]stretch, n.next())
	for i := range s.found {
		s.found[i] = stretch{Span: n.nextSpan(), area: int(n.next())}
	}
	n.at = 0
	s.guard = make([]pages.Span, n.next())
	for i := range s.guard {
		s.guard[i] = n.nextSpan()
	}
	n.at = 0
	s.pieces = make([]piece, n.next())
	for i := range s.pieces {
		span, off := n.nextSpan(), n.next()
		s.pieces[i], _ = newPiece(span, int64(off>>1), off&1 != 0) // as it was one before
	}
	return s.refold
}

// forget is for a folded space that nobody looks at any more.
func (s *Space) forget() {
	if s.folded != nil {
		s.folded.b = nil
		s.refold()
	}
}

// numbers is a list of them, of which small ones take little room.
type numbers struct {
	b  []byte
	at uint64 // where the last span ended
}

func (n *numbers) put(all ...uint64) {
	for _, v := range all {
		n.b = binary.AppendUvarint(n.b, v)
	}
}

func (n *numbers) next() uint64 {
	v, size := binary.Uvarint(n.b)
	n.b = n.b[size:]
	return v
}

// span puts a span that comes behind the last one.
func (n *numbers) span(s pages.Span) {
	n.put((s.Start-n.at)/page, s.Len()/page)
	n.at = s.End
}

func (n *numbers) nextSpan() pages.Span {
	start := n.at + n.next()*page
	n.at = start + n.next()*page
	return pages.Span{Start: start, End: n.at}
}
