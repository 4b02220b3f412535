package dump

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	criu_core "glis.dev/glis/image/criu/criu-core"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kind/task"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/remote"
	"glis.dev/glis/internal/scan"
)

// The first thread of a process may end while others go on (pthread_exit(3) in
// main). It stays a zombie, which can't be traced and has no part in memory and
// files any more, but still gives the process its number, its name and whose it
// is. What belongs to the process another thread is asked for then.

// withoutFirst prepares a task for going on without its first thread.
func withoutFirst(t *scan.Task) error {
	first := &scan.Thread{Thread: remote.Thread{Tgid: t.PID, TID: proc.TID(t.PID), Mask: ^uint64(0)}, Task: t}
	status, err := t.Dir.Status()
	if err != nil {
		return kind.About(t, err)
	}
	first.Status = &status
	first.Status.SigPnd = 0 // nobody will ever get them
	pidfd, err := fd.Task(int(t.Threads[0].TID))
	if errors.Is(err, unix.EINVAL) {
		return kind.Unsupported(t, "its first thread has ended while others go on, and before Linux 6.9 nobody can get the files of those; let it wait for them, or use a newer kernel")
	}
	if err != nil {
		return fmt.Errorf("%v: open a pidfd of thread %d: %w", t, t.Threads[0].TID, gone(err))
	}
	dir, err := proc.Open(proc.PID(t.Threads[0].TID))
	if err != nil {
		return errors.Join(kind.About(t, err), pidfd.Close())
	}
	own, err := dir.Stat()
	t.Stat.SetMemory(&own)
	end, endErr := t.Dir.ThreadStat(proc.TID(t.PID)) // the process's is another one's while it is stopped
	t.Stat.ExitCode = end.ExitCode
	err = errors.Join(err, endErr, t.Dir.Close(), t.Pidfd.Close())
	t.Ended, t.Dir, t.Pidfd = first, dir, pidfd
	return err
}

// answerWithoutFirst hands in what a thread of such a task says: of the thread, and,
// if it was asked for it, of the process.
func (d *dump) answerWithoutFirst(a *asked) error {
	t := a.thread.Task
	if err := fill(a.core, a.thread, a.answers[a.process:]); err != nil {
		return err
	}
	if err := errors.Join(noDeathSignal(a.thread, a.core), d.sink.Put(image.Core, a.core, nil, uint32(a.thread.VTID))); err != nil || a.thread != t.Leader() {
		return err
	}
	t.Ended.VTID, t.Ended.CgroupSet, t.Ended.Shared = t.VPID, a.thread.CgroupSet, a.thread.Shared
	core, err := task.EndedCore(t, a.core)
	if err != nil {
		return err
	}
	d.cores[t] = core
	return fill(core, a.thread, a.answers[:a.process])
}

// noDeathSignal refuses a thread that wants a signal when its parent ends, if that is
// a process whose first thread has ended: a restore has that be the parent of all
// children, until it ends, so that the signal would come.
func noDeathSignal(th *scan.Thread, c *criu_core.CoreEntry) error {
	p := th.Task.Parent
	if p == nil || p.Ended == nil || c.GetThreadCore().GetPdeathSig() == 0 {
		return nil
	}
	return kind.Unsupported(th.Task, "it wants a signal when its parent ends (PR_SET_PDEATHSIG), %v, whose first thread has ended while others go on; let that wait for the others", p)
}
