package mem

import (
	"context"
	"errors"

	"glis.dev/glis/internal/pages"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/scan"
)

// A parent that goes on to write after it has forked has other pages than its children
// then, which go on to share the old ones: a server that has read its configuration, and
// counts references to what it has read, makes so of 200 workers 200 copies. Where such a
// child shares more with an older sibling, its elder, than with its parent, its images say
// of the pages that they are the elder's, see cow.go; and in a restore the elder clones it,
// as its sibling (CLONE_PARENT).

const (
	// fewKin is from how many pages on that a task shares with others, but not with its
	// parent, elders are looked for.
	fewKin = 64
	// mostElders is how many children of a task may be elders, of those that were
	// forked after they were: each is compared with each child behind it.
	mostElders = 4
)

// Elders finds the elder of each space that has one, and notes it in its entry. Parents come
// before children in spaces, and the older children before the younger ones.
func Elders(ctx context.Context, spaces []*Space) error {
	byTask := make(map[*scan.Task]*Space, len(spaces))
	kids := make(map[*Space][]*Space)
	for _, s := range spaces {
		byTask[s.task] = s
		if p := byTask[s.task.Parent]; p != nil && s.mayHaveElder() {
			kids[p] = append(kids[p], s)
		}
	}
	for _, p := range spaces {
		if err := eldersOf(ctx, p, kids[p]); err != nil {
			return err
		}
	}
	return nil
}

// eldersOf is Elders for the children of one task. As they are mostly alike a few of them
// tell whether it is worth to look at all.
func eldersOf(ctx context.Context, p *Space, kids []*Space) error {
	if len(kids) < 2 {
		return nil
	}
	asked := map[*Space]bool{}
	hasKin := func(s *Space) (bool, error) {
		some, known := asked[s]
		if known {
			return some, nil
		}
		some, err := s.hasKin(ctx, p)
		asked[s] = some
		return some, err
	}
	for _, s := range [...]*Space{kids[0], kids[len(kids)/2], kids[len(kids)-1]} {
		some, err := hasKin(s)
		if err != nil {
			return err
		}
		if some {
			return chooseElders(ctx, p, kids, hasKin)
		}
	}
	return nil
}

func chooseElders(ctx context.Context, p *Space, kids []*Space, hasKin func(*Space) (bool, error)) error {
	var all []*Space
	for _, s := range kids {
		best := fewKin - 1
		for _, o := range all {
			if o.bornInto() != s.bornInto() || s.CutBy(o, p) {
				continue
			}
			k, err := s.kin(ctx, p, o)
			if err != nil {
				return err
			}
			if gain := k.sibling - k.parent; gain > best {
				best, s.elder = gain, o
			}
		}
		if s.elder != nil {
			putVarint(s.Entry, mmExtra, mmExtraElder) // in place of what was said first
			putVarint(s.Entry, mmElder, uint64(s.elder.PID))
			continue
		}
		if len(all) == mostElders {
			continue
		}
		some, err := hasKin(s)
		if err != nil {
			return err
		}
		if some {
			all = append(all, s)
		}
	}
	return nil
}

// mayHaveElder tells whether a sibling could clone the task: what tables it has in common
// with its parent only that could give it.
func (s *Space) mayHaveElder() bool {
	own, p := s.task.IDs, s.task.Parent.IDs
	return own.Files != p.Files && own.FS != p.FS
}

// bornInto is the session that the task was cloned into.
func (s *Space) bornInto() proc.PID {
	if st := &s.task.Stat; st.Session != s.task.PID {
		return st.Session
	}
	return s.task.Parent.Stat.Session
}

// kinship is how many pages a task shares.
type kinship struct {
	parent  int // with its parent, but not with the sibling
	sibling int // with that, but not with its parent
}

// kin counts what a task shares with whom, of the parts that are looked at.
func (s *Space) kin(ctx context.Context, parent, sibling *Space) (k kinship, err error) {
	a, err := newMatcher(ctx, s, parent)
	if err != nil {
		return k, err
	}
	defer a.close()
	b, err := newMatcher(ctx, s, sibling)
	if err != nil {
		return k, err
	}
	defer b.close()
	err = s.eachPart(func(part pages.Span) error {
		some, err := a.shareables(part)
		if err != nil || some == 0 {
			return err
		}
		b.words = append(b.words[:0], a.words...)
		if _, err := a.compare(part); err != nil {
			return err
		}
		if _, err := b.compare(part); err != nil {
			return err
		}
		for i, w := range a.words {
			switch x := b.words[i]; {
			case w != 0 && x == 0:
				k.parent++
			case w == 0 && x != 0:
				k.sibling++
			}
		}
		return nil
	})
	return k, err
}

// hasKin tells whether a task shares pages with others than its parent.
func (s *Space) hasKin(ctx context.Context, parent *Space) (bool, error) {
	m, err := newMatcher(ctx, s, parent)
	if err != nil {
		return false, err
	}
	defer m.close()
	elsewhere := 0
	err = s.eachPart(func(part pages.Span) error {
		shared, err := m.shareables(part)
		if err != nil || shared == 0 {
			return err
		}
		with, err := m.compare(part)
		if elsewhere += shared - with; err == nil && elsewhere >= fewKin {
			return errShared
		}
		return err
	})
	if errors.Is(err, errShared) {
		return true, nil
	}
	return false, err
}

// mostLooked is how many pages of a task are looked at, about: of more every second part is,
// or every third, and so on, of up to mostWords pages each.
const mostLooked = 1 << 15

// eachPart calls f for parts of a task's pages.
func (s *Space) eachPart(f func(part pages.Span) error) error {
	defer s.unfold()()
	all, n := uint64(0), uint64(0)
	err := s.each(func(p stretch) error {
		all += p.Len() / page
		return nil
	})
	if err != nil {
		return err
	}
	every := 1 + all/mostLooked
	return s.each(func(p stretch) error {
		for at := p.Start; at < p.End && !s.areas[p.area].huge(); at += mostWords * page {
			if n++; n%every != 0 {
				continue
			}
			if err := f(pages.Span{Start: at, End: min(p.End, at+mostWords*page)}); err != nil {
				return err
			}
		}
		return nil
	})
}

// CutBy tells whether a mapping that the parent has whole, or more of, would come back from a
// sibling in parts, since that has a part of it only, or parts: mremap(2) doesn't take what is
// not all inherited for one.
func (s *Space) CutBy(sibling, parent *Space) bool {
	defer s.unfold()()
	defer sibling.unfold()()
	defer parent.unfold()()
	its, parents := sibling.areas, parent.areas
	for i := range s.areas {
		a := &s.areas[i]
		if !a.mapped() || !a.private() {
			continue
		}
		cut := false
		if its, cut = borders(its, a); !cut {
			continue
		}
		if parents, cut = borders(parents, a); !cut {
			return true
		}
	}
	return false
}

// borders tells whether a mapping begins or ends within another one, and returns those that
// don't end before it.
func borders(all []area, a *area) ([]area, bool) {
	for len(all) > 0 && all[0].End <= a.Start {
		all = all[1:]
	}
	for i := range all {
		x := &all[i]
		if x.Start >= a.End {
			break
		}
		if x.Start > a.Start || x.End < a.End {
			return all, true
		}
	}
	return all, false
}

// Elder returns the number of the sibling that a space of the images has its elder in, 0 if
// it has none.
func (s *Space) Elder() uint32 {
	if s.extra&mmExtraElder == 0 {
		return 0
	}
	return s.elderPID
}

// CloneOf says who is to clone the task: its elder, or else its parent, of which its images
// say nothing then, so that contents are compared.
func (s *Space) CloneOf(elder bool) {
	if s.extra &^= mmExtraElder; elder {
		s.extra |= mmExtraCow
	}
}

// errElder says that an image can't be true.
var errElder = errors.New("its memory is said to be shared with a task that can't be")

// readElder takes down which space an entry says is the elder's.
func (s *Space) readElder(v uint64) error {
	if v == 0 || v > 1<<22 || uint32(v) == s.PID {
		return errElder
	}
	s.elderPID = uint32(v)
	return nil
}
