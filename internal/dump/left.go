package dump

import (
	"errors"

	"glis.dev/glis/internal/scan"
)

// Of a process whose parent ignores SIGCHLD (or has SA_NOCLDWAIT) nothing is left when it
// ends, also while that parent stands still. One that was found and has ended before it
// stood is no more of the tree than one that ended before.

// hasEnded tells whether there is nothing of a task to be stopped.
func (f *freezer) hasEnded(t *scan.Task) bool { return t.Zombie || f.tree.Task(t.PID) != t }

// mayLeave tells whether a task that is gone can be left out: none of it stands, and none of
// the tree was found as its child, which would be somebody else's by now.
func (f *freezer) mayLeave(t *scan.Task) bool {
	return t != f.tree.Root && len(t.Threads) == 0 && len(t.Children) == 0
}

// leave takes a task that is gone out of the tree.
func (f *freezer) leave(t *scan.Task) error {
	f.tree.Remove(t)
	delete(f.doubted, t)
	err := f.reading.Wait() // of threads of its that stood, in the directory that is closed
	return errors.Join(err, t.Dir.Close(), t.Pidfd.Close())
}
