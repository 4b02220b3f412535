package mem

import (
	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/linux"
)

// How a task's mappings relate to those of the parent it was forked from.

// sameKind are the flags in which a mapping and what it is inherited from must
// agree: nothing changes them but mapping anew.
const sameKind = unix.MAP_SHARED | unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_GROWSDOWN | unix.MAP_NORESERVE | linux.MAP_DROPPABLE

// inheritable tells whether a may be what a fork left of p: the same memory,
// or the same file, at the same place.
func (a *area) inheritable(p *area) bool {
	const kinds = statusPrivate | statusFileShared | statusAnonShared | statusVdso | statusVvar | statusMemfd
	return a.Span == p.Span && (a.flags^p.flags)&sameKind == 0 && (a.status^p.status)&kinds == 0 &&
		a.file == p.file && a.offset == p.offset && a.access == p.access
}

// forkable tells whether the fork leaves it as it is now wanted: what was
// advised about it can be changed, but for one thing.
func (a *area) forkable(p *area) bool {
	const huge = 1<<unix.MADV_HUGEPAGE | 1<<unix.MADV_NOHUGEPAGE
	gone := p.madvise &^ a.madvise
	return a.inheritable(p) && (gone&huge == 0 || a.madvise&huge != 0) && a.name == p.name
}

// link finds out what of its mappings the task has already, as a fork of its
// parent, and what of the contents.
func (s *Space) link(parent *Space) {
	s.parent = parent
	for i := range s.areas {
		s.areas[i].from = nil
	}
	if parent == nil {
		return
	}
	j := 0
	for i := range s.areas {
		a := &s.areas[i]
		for j < len(parent.areas) && parent.areas[j].Start < a.Start {
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
		at := x.Start
		for at < x.End {
			for len(own) > 0 && own[0].End <= at {
				own = own[1:]
			}
			if len(own) == 0 || own[0].Start >= x.End {
				f(at, x.End)
				break
			}
			if own[0].Start > at {
				f(at, own[0].Start)
			}
			at = own[0].End
		}
	}
}

func (s *Space) parentPieces(p *area) []piece { return s.parent.pieces[p.first:p.last] }
