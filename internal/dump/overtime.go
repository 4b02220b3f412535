package dump

import (
	"fmt"
	"time"

	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/scan"
)

// Some threads can't stop for now: they wait in the kernel where no signal and no tracer
// wakes them. The others of the tree stand still meanwhile.

// mostVfork is how long a parent may wait in vfork(2). Mostly its child executes a program
// within a millisecond.
const mostVfork = time.Second

// late returns what tells, now and then, why a thread is waited for no longer.
func (f *freezer) late(th *scan.Thread) func() error {
	next := time.Now().Add(mostVfork)
	return func() error {
		if err := f.overtime(th); err != nil || time.Now().Before(next) {
			return err
		}
		next = next.Add(mostVfork / 10)
		if _, at := whereabouts(th); inVfork(at) {
			return kind.Unsupported(th.Task, "thread %d waits in vfork(2) until its child%s executes a program or ends, and can't be stopped before; try again when that has been", th.TID, child(th))
		}
		return nil
	}
}

// overtime says that the time for the freeze is over, and what for.
func (f *freezer) overtime(th *scan.Thread) error {
	err := f.over()
	if err == nil {
		return nil
	}
	state, at := whereabouts(th)
	why := ""
	switch {
	case inVfork(at):
		why = fmt.Sprintf("; it waits in vfork(2) until its child%s executes a program or ends", child(th))
	case state == "D":
		why = fmt.Sprintf("; it waits in the kernel (%s) for what can't be interrupted, as a disk or a file server that does not answer", at)
	}
	return fmt.Errorf("%v: thread %d (state %s) has not stopped%s: %w", th.Task, th.TID, state, why, err)
}

// whereabouts returns the state of a thread, as of ps(1), and where in the kernel it
// sleeps, as far as that is told.
func whereabouts(th *scan.Thread) (state, at string) {
	state = "unknown"
	if st, err := th.Task.Dir.ThreadStat(th.TID); err == nil {
		state = string(st.State)
	}
	b, _ := th.Task.Dir.Thread(th.TID).ReadFile("wchan") // nothing is as good
	return state, string(b)
}

// inVfork tells whether a thread that can't be stopped waits for its child: in the first
// if the compiler has made two functions of it.
func inVfork(at string) bool { return at == "wait_for_vfork_done" || at == "kernel_clone" }

// child names the child of a thread, if it has one.
func child(th *scan.Thread) string {
	kids, err := th.Task.Dir.Children(th.TID)
	if err != nil || len(kids) != 1 {
		return ""
	}
	return fmt.Sprintf(" (process %d)", kids[0])
}
