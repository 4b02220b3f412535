package dump

import (
	"fmt"
	"slices"

	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/scan"
)

// alike are open files of one inode that have the same flags: kcmp(2) tells whether two
// are one open file description. Its answers are an order, so each is found by halving,
// but of ten thousand descriptors of one file that is some fifteen calls for each, frozen;
// where the kernel has them is enough to tell, if that is known of all.
type alike struct {
	all    []*scan.File
	places map[uint64]*scan.File // those of which it is known
	sorted bool                  // all is in the order of kcmp(2)
}

func newAlike(first *scan.File) *alike {
	a := &alike{places: map[uint64]*scan.File{}, sorted: true}
	a.add(0, first)
	return a
}

// find returns the one that a file is. It adds it, and returns nil, if it is none of them.
func (a *alike) find(file *scan.File) (*scan.File, error) {
	if file.Place != 0 {
		if known := a.places[file.Place]; known != nil {
			return known, nil
		}
		if len(a.places) == len(a.all) {
			a.sorted = false
			a.add(len(a.all), file)
			return nil, nil
		}
	}
	if err := a.sort(); err != nil {
		return nil, err
	}
	var failed error
	i, same := slices.BinarySearchFunc(a.all, file, compare(&failed))
	switch {
	case failed != nil:
		return nil, failed
	case same:
		return a.all[i], nil
	}
	a.add(i, file)
	return nil, nil
}

func (a *alike) add(at int, file *scan.File) {
	a.all = slices.Insert(a.all, at, file)
	if file.Place != 0 {
		a.places[file.Place] = file
	}
}

func (a *alike) sort() (err error) {
	if !a.sorted {
		slices.SortFunc(a.all, compare(&err))
		a.sorted = err == nil
	}
	return err
}

// compare returns a function that compares files by kcmp(2), and notes what fails.
func compare(failed *error) func(a, b *scan.File) int {
	return func(a, b *scan.File) int {
		r, err := linux.Kcmp(a.Task.Via(), b.Task.Via(), linux.KCMP_FILE, uintptr(a.FD), uintptr(b.FD))
		if err != nil {
			*failed = fmt.Errorf("%v: compare with %v: %w", b, a, err)
		}
		return order(r)
	}
}
