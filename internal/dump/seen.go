package dump

import (
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/par"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/scan"
)

// look reads what the kernel's memory tells of the threads of stopped tasks, of all
// anew: a task that stands still gets children that others leave behind.
func (f *freezer) look() {
	if f.threadsAt == nil {
		return
	}
	for _, t := range f.tree.Tasks {
		if t.Zombie || len(t.Threads) < someThreads || f.ended() != nil {
			continue
		}
		all, err := f.threadsAt.Look(t.Pidfd.Int(), len(t.Threads))
		if err != nil {
			all = nil
		}
		scan.See(t, all)
	}
}

// readStatuses reads the status of all threads but leaders: of threads that are alike
// only one, and another one to compare.
func (f *freezer) readStatuses() error {
	if f.threadsAt == nil {
		return nil // done
	}
	var toRead []*scan.Thread
	for _, t := range f.tree.Tasks {
		if !t.Zombie {
			toRead = append(toRead, scan.Liken(t)...)
		}
	}
	if err := f.readThese(toRead); err != nil {
		return err
	}
	for _, t := range f.tree.Tasks {
		if !t.Zombie && !copyStatuses(t) {
			scan.Forget(t)
			if err := f.readThese(t.Threads[1:]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (f *freezer) readThese(threads []*scan.Thread) error {
	return par.Do(len(threads), func(i int) (err error) {
		th := threads[i]
		if err := f.ended(); err != nil {
			return err
		}
		if th.Status, err = readStatus(th.Task.Dir, th.TID); err != nil {
			return kind.About(th.Task, err)
		}
		return nil
	})
}

func readStatus(dir *proc.Dir, tid proc.TID) (*proc.Status, error) {
	s, err := dir.ThreadStatus(tid)
	return &s, err
}

// copyStatuses gives threads that are like another one its status. False if one that
// was read says something else.
func copyStatuses(t *scan.Task) bool {
	for _, th := range t.Threads[1:] {
		if th.Like != nil && !th.CopyStatus() {
			return false
		}
	}
	return true
}
