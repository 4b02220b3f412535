package dump

import (
	"errors"
	"slices"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/tracee"
)

// A thread that executes a program ends all others of its process, also such as have
// stopped already, and then goes on under the number of the first: as a thread that was
// seized by another number, or that nobody has seen. What is known of a process is in
// doubt whenever one of its threads is gone, until all are known to stand.

// sure looks again at the threads of tasks in doubt, and tells whether one of them does
// not stand any more.
func (f *freezer) sure(tasks []*scan.Task) (lost bool, err error) {
	for _, t := range tasks {
		if !f.doubted[t] {
			continue
		}
		delete(f.doubted, t)
		if lives, err := unseen(t); lives || err != nil {
			return true, err
		}
		for _, th := range slices.Clone(t.Threads) {
			if err := f.ended(); err != nil {
				return lost, err
			}
			err := tracee.Still(th.TID, func() error { return f.overtime(th) })
			if err != nil && !errors.Is(err, tracee.ErrGone) {
				return lost, err
			}
			if err != nil {
				f.forget(th)
				lost = true
			}
		}
	}
	return lost, nil
}

// forget forgets a thread that is gone. Somebody else may have its number by now.
func (f *freezer) forget(th *scan.Thread) {
	same := func(x *scan.Thread) bool { return x == th }
	f.doubted[th.Task] = true
	delete(f.moving, th)
	delete(f.seen, th.TID)
	f.seized = slices.DeleteFunc(f.seized, same)
	th.Task.Threads = slices.DeleteFunc(th.Task.Threads, same)
}

// isOurs tells whether a thread that can't be seized is: by the number that it had before
// it executed a program. It may not have been asked to stop, since that number was nobody's
// by then, and the end of execve(2) passed, at which it would have.
func isOurs(t *scan.Task, tid proc.TID) bool {
	st, err := t.Dir.ThreadStatus(tid)
	return err == nil && int(st.TracerPid) == unix.Gettid()
}

// again stops tasks once more of which a thread ran on, or came, by executing a program.
func (f *freezer) again(tasks []*scan.Task) ([]proc.PID, error) {
	if err := f.stop(tasks); err != nil {
		return nil, err
	}
	f.look()
	return f.newChildren()
}

// stat reads what /proc says of a task.
func (f *freezer) stat(dir *proc.Dir) (proc.Stat, error) {
	return lasting(dir.Stat, func(st *proc.Stat) bool { return st.NumThreads > 0 }, f.ended)
}

// unseen tells whether none of the threads of a task in doubt was to be had, since one took
// over the number of the first just then, but the task has not ended. The first is looked
// at after the others: it may be one of them by then.
func unseen(t *scan.Task) (bool, error) {
	if len(t.Threads) > 0 {
		return false, nil
	}
	tids, err := t.Dir.Threads()
	for _, tid := range append(tids, proc.TID(t.PID)) {
		if err == nil && !ended(t, tid) {
			return true, nil
		}
	}
	if errors.Is(err, proc.ErrGone) {
		return false, nil
	}
	return false, kind.About(t, err)
}
