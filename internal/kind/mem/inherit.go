package mem

import (
	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/linux"
)

// How a task's mappings relate to those of the parent it was forked from.

// sameKind are the flags in which a mapping and what it is inherited from must
// agree: nothing changes them but mapping anew.
const sameKind = unix.MAP_SHARED | unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_GROWSDOWN | unix.MAP_NORESERVE | linux.MAP_DROPPABLE | hugeFlags

// inheritable tells whether a may be what a fork left of a part of p: the
// same memory, or the same file, at the same place.
func (a *area) inheritable(p *area) bool {
	const kinds = statusPrivate | statusFileShared | statusAnonShared | statusSysVIPC | statusVdso | statusVvar | statusMemfd | statusSocket
	return !a.is(statusAIORing) && p.Start <= a.Start && a.End <= p.End && (a.flags^p.flags)&sameKind == 0 && (a.status^p.status)&kinds == 0 &&
		a.file == p.file && a.segment == p.segment && (!a.placed() || a.offset-p.offset == a.Start-p.Start) && a.access == p.access
}

// placed tells whether it is a certain part of something.
func (a *area) placed() bool { return a.file != 0 || a.is(statusSysVIPC) }

// forkable tells whether the fork leaves it as it is now wanted: what was
// advised about it can be changed, but for one thing.
func (a *area) forkable(p *area) bool {
	const huge = 1<<unix.MADV_HUGEPAGE | 1<<unix.MADV_NOHUGEPAGE
	gone := p.madvise &^ a.madvise
	return a.inheritable(p) && (gone&huge == 0 || a.madvise&huge != 0) && a.name == p.name
}

// link finds out what of its mappings the task has already, as a fork of its
// parent.
func (s *Space) link(parent *Space) {
	s.parent = parent
	if parent == nil {
		return
	}
	defer s.keepRowsWhole()
	s.splitAt(parent.areas)
	j := 0
	for i := range s.areas {
		a := &s.areas[i]
		for j < len(parent.areas) && parent.areas[j].End <= a.Start {
			j++
		}
		if j == len(parent.areas) {
			return
		}
		if p := &parent.areas[j]; a.forkable(p) && s.drops(a, p) <= mostDrops {
			a.from = p
		}
	}
}

// splitAt splits private areas where an area of the parent begins or ends: the
// kernel joins mappings of a task that it has to keep apart in another. Shared
// ones stay whole: there is nothing in a part of them that only a fork could give,
// and the rest, mapped from a file that was opened again (withAccess in restore),
// would be another mapping for good.
func (s *Space) splitAt(others []area) {
	out := make([]area, 0, len(s.areas))
	for _, a := range s.areas {
		for len(others) > 0 && others[0].End <= a.Start {
			others = others[1:]
		}
		for _, p := range others {
			if p.Start >= a.End || !a.mapped() || !a.private() {
				break
			}
			for _, at := range [...]uint64{p.Start, p.End} {
				if at <= a.Start || at >= a.End || at%a.unit() != 0 {
					continue
				}
				low := a
				low.End = at
				if out, a.Start = append(out, low), at; a.placed() {
					a.offset += low.Len()
				}
			}
		}
		out = append(out, a)
	}
	if len(out) > len(s.areas) {
		s.areas = out
		s.assign()
	}
}

// assign finds out which pieces each area has, and splits those that reach
// into the next area. It returns an address that is in none, or that belongs
// to an area without pages of its own.
func (s *Space) assign() (stray uint64, ok bool) {
	all, split := s.pieces, false
	s.pieces = all[:0] // which are read before they are written
	for i := range s.areas {
		a := &s.areas[i]
		a.first = len(s.pieces)
		for len(all) > 0 && all[0].start() < a.End {
			p := &all[0]
			if p.start() < a.Start || !a.private() {
				return p.start(), false
			}
			if p.end() <= a.End {
				s.pieces, all = append(s.pieces, *p), all[1:]
				continue
			}
			if !split {
				all, split = s.apart(all), true
				p = &all[0]
			}
			s.pieces, *p = append(s.pieces, p.part(p.start(), a.End)), p.part(a.End, p.end())
		}
		a.last = len(s.pieces)
	}
	if len(all) > 0 {
		return all[0].start(), false
	}
	return 0, true
}

// apart has the pieces that are left be behind so much room that one for each mapping can be put
// down before them: where there is that, they move.
func (s *Space) apart(left []piece) []piece {
	if cap(s.pieces)-len(s.pieces)-len(left) < len(s.areas) {
		s.pieces = append(make([]piece, 0, len(s.pieces)+len(left)+len(s.areas)), s.pieces...)
		return left
	}
	end := s.pieces[cap(s.pieces)-len(left) : cap(s.pieces)]
	copy(end, left)
	return end
}

// mostDrops is how many pieces of an inherited mapping are dropped one by one;
// with more of them it is cheaper to map it anew.
const mostDrops = 64

// drops counts the runs of pages that p has and a has not.
func (s *Space) drops(a, p *area) int {
	n := 0
	s.eachDrop(a, p, func(start, end uint64) { n++ })
	return n
}

// eachDrop calls f for every run of pages that p has and a has not.
func (s *Space) eachDrop(a, p *area, f func(start, end uint64)) {
	if !a.private() || !a.mapped() {
		return
	}
	own := s.pieces[a.first:a.last]
	for _, x := range s.parentPieces(p) {
		at, to := max(x.start(), a.Start), min(x.end(), a.End)
		for at < to {
			for len(own) > 0 && own[0].end() <= at {
				own = own[1:]
			}
			if len(own) == 0 || own[0].start() >= to {
				f(at, to)
				break
			}
			if own[0].start() > at {
				f(at, own[0].start())
			}
			at = own[0].end()
		}
	}
}

func (s *Space) parentPieces(p *area) []piece { return s.parent.pieces[p.first:p.last] }
