package restore

import (
	"cmp"
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

// Rehearse plans the open files of a tree from what its images are about to say, as a
// restore with these options would. A dump asks before it ends the tree: what can't be
// planned could not come back. It makes nothing, and doesn't ask what the machine is
// like, since the restore may be on another one. ended returns why there is no more
// time.
func Rehearse(src plan.Source, files []*fdinfo.FileEntry, both options.Both, ended func() error) error {
	o := options.NewRestore()
	o.Both = both
	p, set := plan.New(src, o), kinds.New()
	some, err := doubts(src, set, files)
	if err != nil || len(some) == 0 {
		return err
	}
	p.Expect(len(some))
	if byNumber := func(a, b *fdinfo.FileEntry) int { return cmp.Compare(a.GetId(), b.GetId()) }; !slices.IsSortedFunc(files, byNumber) {
		files = slices.SortedFunc(slices.Values(files), byNumber)
	}
	p.Else = func(id plan.ID) plan.Node { return undoubted(files, id) }
	err = planEach(p, &tree{}, set, func(f func(*fdinfo.FileEntry) error) error {
		for _, e := range some {
			if err := errors.Join(ended(), f(e)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	_, err = p.Nodes()
	return err
}

// doubts returns the files that have to be planned.
func doubts(src plan.Source, set *kinds.Set, files []*fdinfo.FileEntry) (out []*fdinfo.FileEntry, err error) {
	sure := make([]bool, len(files))
	for _, k := range set.Files {
		if d, ok := k.(kind.Doubter); ok {
			err = errors.Join(err, d.Undoubted(src, files, sure))
		}
	}
	for i, e := range files {
		if !sure[i] {
			out = append(out, e)
		}
	}
	return out, err
}

// undoubted returns a file that a rehearsal doesn't plan, nil if there is no such file.
func undoubted(files []*fdinfo.FileEntry, id plan.ID) plan.Node {
	_, ok := slices.BinarySearchFunc(files, uint32(id), func(e *fdinfo.FileEntry, id uint32) int { return cmp.Compare(e.GetId(), id) })
	if !ok {
		return nil
	}
	return unplanned(id)
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
