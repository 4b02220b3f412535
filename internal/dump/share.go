package dump

import (
	"fmt"
	"slices"

	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/scan"
)

// object is one sort of kernel object that tasks may share.
type object struct {
	typ int // KCMP_*
	id  func(*scan.IDs) *uint32
}

var objects = []object{
	{linux.KCMP_VM, func(i *scan.IDs) *uint32 { return &i.VM }},
	{linux.KCMP_FILES, func(i *scan.IDs) *uint32 { return &i.Files }},
	{linux.KCMP_FS, func(i *scan.IDs) *uint32 { return &i.FS }},
	{linux.KCMP_SIGHAND, func(i *scan.IDs) *uint32 { return &i.Sighand }},
}

// share finds out which tasks share tables, and numbers those as criu does:
// 1 is the engine's own, the tree begins with 2.
func (d *dump) share() error {
	for _, o := range objects {
		if err := d.shareObject(o); err != nil {
			return err
		}
	}
	if t, o := sharers(d.tree); t != nil {
		return kind.Unsupported(t, "it shares its memory with %v (vfork in progress, or CLONE_VM); try again a moment later", o)
	}
	return nil
}

// sharers returns two tasks that have the same memory, nil if there are none.
func sharers(tree *scan.Tree) (*scan.Task, *scan.Task) {
	of := make(map[uint32]*scan.Task, len(tree.Tasks))
	for _, t := range tree.Tasks {
		if t.Zombie {
			continue
		}
		if o := of[t.IDs.VM]; o != nil {
			return o, t
		}
		of[t.IDs.VM] = t
	}
	return nil, nil
}

// shareObject numbers one sort of object. kcmp(2) gives an order, so a task
// is looked up among the others by halving.
func (d *dump) shareObject(o object) error {
	var sorted []*scan.Task
	for _, t := range d.tree.Tasks {
		if t.Zombie {
			continue
		}
		failed := d.ended()
		i, same := slices.BinarySearchFunc(sorted, t, func(a, b *scan.Task) int {
			r, err := linux.Kcmp(a.Via(), b.Via(), o.typ, 0, 0)
			if err != nil {
				failed = fmt.Errorf("%v: compare with %v: %w", b, a, err)
			}
			return order(r)
		})
		if failed != nil {
			return failed
		}
		if same {
			*o.id(&t.IDs) = *o.id(&sorted[i].IDs)
			continue
		}
		*o.id(&t.IDs) = uint32(len(sorted)) + 2
		sorted = slices.Insert(sorted, i, t)
	}
	return nil
}

// order turns a result of kcmp(2) into that of a comparison.
func order(r int) int {
	switch r {
	case 1:
		return -1
	case 2:
		return 1
	}
	return 0
}
