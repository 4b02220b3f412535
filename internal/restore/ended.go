package restore

import (
	"fmt"
	"time"

	"glis.dev/glis/image"
	facets "glis.dev/glis/internal/kind/task"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/tracee"
)

// The first thread of a process that had ended while others went on is made like
// others, since it is the one that the process begins with, and ends when all is
// done: its registers have it exit.

// mayEnd checks that who is to end so is the first of several threads.
func (th *thread) mayEnd() error {
	ends, blocked, err := facets.Ended(th.extra)
	th.ends, th.blocked = ends, blocked
	if err == nil && ends && (th.tid != th.task.pid || len(th.task.threads) < 2) {
		err = fmt.Errorf("it ends before the others of its process go on, but isn't the first of several threads")
	}
	if err != nil {
		return fmt.Errorf("%s: %w", image.Core.FileName(th.tid), err)
	}
	return nil
}

// firstEnds tells whether the first thread of a task is to end.
func (t *task) firstEnds() bool { return t.images[0].ends }

// endFirst lets the first thread of a task go, which its registers have exit, and waits
// until it has. What it had blocked others can read for as long as the process lives,
// but no signal of the process is to reach it any more: so it gets that in the middle of
// exit(2). What goes wrong of this changes nothing but that.
func endFirst(t *task) error {
	tid := t.live.threads[0].TID
	if err := tracee.ContSyscall(tid); err == nil {
		if s, err := tracee.Wait(tid); err == nil && s.Syscall() {
			_ = tracee.SetSigmask(tid, t.images[0].blocked)
		}
	}
	err := tracee.Detach(tid, 0)
	if err == nil {
		awaitFirst(t.pid)
	}
	return err
}

// awaitFirst waits until the first thread of a task has ended, which was let go, so
// that the others never meet it. Nobody tells.
func awaitFirst(pid uint32) {
	d, err := proc.Open(proc.PID(pid))
	if err != nil {
		return
	}
	defer d.Close() //nolint:errcheck // nothing is buffered
	for end := time.Now().Add(longestEnd); time.Now().Before(end); time.Sleep(20 * time.Microsecond) {
		if st, err := d.Stat(); err != nil || st.State == 'Z' {
			return
		}
	}
}

// longestEnd is how long it is waited for.
const longestEnd = time.Second
