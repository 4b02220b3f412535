package restore

import (
	"context"
	"errors"
	"slices"

	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kinds"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/options"
)

// Entries are those of files.img, as a dump is about to write them. There may be very many.
type Entries interface {
	// Outlines calls f with each, which is valid until f returns, and may be as
	// kind.Doubt takes it.
	Outlines(f func(e *fdinfo.FileEntry) error) error
	// Some calls f with those at the places that want is true for.
	Some(want func(at int) bool, f func(e *fdinfo.FileEntry) error) error
}

// Rehearse plans the open files of a tree from what its images are about to say, as a
// restore with these options would. A dump asks before it ends the tree: what can't be
// planned could not come back. It makes nothing, and doesn't ask what the machine is
// like, since the restore may be on another one. ended returns why there is no more
// time.
func Rehearse(src plan.Source, files Entries, both options.Both, ended func() error) error {
	o := options.NewRestore()
	o.Both = both
	p, set := plan.New(src, o), kinds.New()
	ids, sure, err := undoubted(src, set, files, ended)
	if err != nil {
		return err
	}
	n := 0
	for _, s := range sure {
		if !s {
			n++
		}
	}
	if n == 0 {
		return nil
	}
	p.Expect(n)
	if !slices.IsSorted(ids) {
		slices.Sort(ids)
	}
	p.Else = func(id plan.ID) plan.Node {
		if _, ok := slices.BinarySearch(ids, uint32(id)); ok {
			return unplanned(id)
		}
		return nil
	}
	err = planEach(p, &tree{}, set, func(f func(*fdinfo.FileEntry) error) error {
		return files.Some(func(at int) bool { return !sure[at] }, func(e *fdinfo.FileEntry) error {
			return errors.Join(ended(), f(e))
		})
	})
	if err != nil {
		return err
	}
	_, err = p.Nodes()
	return err
}

// undoubted returns the numbers of all files, and which of them need not be planned.
func undoubted(src plan.Source, set *kinds.Set, files Entries, ended func() error) (ids []uint32, sure []bool, err error) {
	var all []kind.Doubt
	for _, k := range set.Files {
		if d, ok := k.(kind.Doubter); ok {
			doubt, err := d.Doubt(src)
			if err != nil {
				return nil, nil, err
			}
			all = append(all, doubt)
		}
	}
	err = files.Outlines(func(e *fdinfo.FileEntry) error {
		for _, d := range all {
			d.See(len(ids), e)
		}
		ids = append(ids, e.GetId())
		return ended()
	})
	if err != nil {
		return nil, nil, err
	}
	sure = make([]bool, len(ids))
	for _, d := range all {
		d.Sure(sure)
	}
	return ids, sure, nil
}

// unplanned is a file that a rehearsal need not plan.
type unplanned plan.ID

// ID implements plan.Node.
func (u unplanned) ID() plan.ID { return plan.ID(u) }

// Needs implements plan.Node.
func (unplanned) Needs() []plan.ID { return nil }

// String implements plan.Node.
func (unplanned) String() string { return "a file that is no question" }

// Create implements plan.Node.
func (unplanned) Create(context.Context, *plan.Env) (*fd.FD, error) {
	return nil, errors.New("a rehearsal makes nothing")
}
