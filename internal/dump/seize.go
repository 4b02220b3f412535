package dump

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/remote"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/tracee"
)

// seize asks all threads of a task that were not seen before to stop.
func (f *freezer) seize(t *scan.Task) ([]*scan.Thread, error) {
	if f.hasEnded(t) {
		return nil, nil
	}
	tids, err := t.Dir.Threads()
	if errors.Is(err, proc.ErrGone) && f.mayLeave(t) {
		return nil, f.leave(t)
	}
	if err != nil {
		return nil, kind.About(t, err)
	}
	if len(tids) > 1 {
		defer tracee.ReapOthers(proc.TID(t.PID))()
	}
	var fresh []*scan.Thread
	begin := time.Now().Add(-f.toLetGo)
	for _, tid := range tids {
		if f.seen[tid] {
			continue
		}
		f.toLetGo = time.Since(begin)
		if err := f.ended(); err != nil {
			return fresh, err
		}
		th, err := f.take(t, tid)
		if err != nil {
			return nil, err
		}
		if th != nil {
			fresh = append(fresh, th)
		}
	}
	return fresh, nil
}

// take seizes a thread and asks it to stop. nil if it is gone.
func (f *freezer) take(t *scan.Task, tid proc.TID) (*scan.Thread, error) {
	if err := notWorker(t, tid); err != nil {
		return nil, err
	}
	err := f.seizeOne(tid)
	if errors.Is(err, tracee.ErrGone) || errors.Is(err, unix.EPERM) && ended(t, tid) {
		f.doubted[t] = true
		return nil, nil // if it was the first thread, settled sees what is left
	}
	if err != nil && (!errors.Is(err, unix.EPERM) || !isOurs(t, tid)) {
		return nil, f.whyNot(t, tid, err)
	}
	th := &scan.Thread{Thread: remote.Thread{Tgid: t.PID, TID: tid}, Task: t, Status: &f.unread}
	f.seen[tid] = true
	f.seized = append(f.seized, th)
	f.moving[th] = true
	if err := tracee.Interrupt(tid); err != nil && !errors.Is(err, tracee.ErrGone) {
		return nil, err
	}
	return th, nil
}

func (f *freezer) seizeOne(tid proc.TID) error {
	if !f.noSuspend {
		err := f.seizing.Seize(tid, seizeOptions)
		if !errors.Is(err, unix.EPERM) {
			return err
		}
	}
	err := f.seizing.Seize(tid, seizeOptions&^linux.PTRACE_O_SUSPEND_SECCOMP)
	f.noSuspend = f.noSuspend || err == nil
	return err
}

// ended tells whether a thread has ended, but not gone. The kernel does not let
// it be seized then.
func ended(t *scan.Task, tid proc.TID) bool {
	st, err := t.Dir.ThreadStat(tid)
	return errors.Is(err, proc.ErrGone) || err == nil && (st.State == 'Z' || st.State == 'X')
}

// whyNot turns a refused seize into what the user can understand.
func (f *freezer) whyNot(t *scan.Task, tid proc.TID, err error) error {
	if over := f.over(); over != nil && errors.Is(err, unix.EINTR) {
		return fmt.Errorf("%v: thread %d can't be seized as long as another one executes a program (execve(2)), which takes long: %w", t, tid, over)
	}
	st, serr := t.Dir.Status()
	switch {
	case serr != nil:
	case st.Kthread:
		return fmt.Errorf("%v is a kernel thread: only processes can be dumped", t)
	case st.TracerPid != 0 && int(st.TracerPid) != unix.Gettid(): // one of its other threads may be ours already
		return kind.Unsupported(t, "it is traced by process %d (strace, gdb, another dump?); end that first", st.TracerPid)
	}
	return fmt.Errorf("%v: seize thread %d: %w", t, tid, err)
}
