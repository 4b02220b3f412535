package restore

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	facets "glis.dev/glis/internal/kind/task"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/remote"
	"glis.dev/glis/internal/tracee"
)

// resume gives every thread its registers, takes our memory out of the tasks
// and lets them go. Nothing of a task's own has run before.
func (r *restore) resume() error {
	for _, t := range r.tree.tasks {
		if t.zombie {
			continue
		}
		if err := r.setRegisters(t); err != nil {
			return fmt.Errorf("%v: %w", t, err)
		}
	}
	return r.release()
}

// setRegisters makes all threads of a task ready to go on where they were.
// The leader comes last, since it is the one that unmaps the arena: at the
// exit of that system call it gets its registers.
func (r *restore) setRegisters(t *task) error {
	l := t.live
	for i := len(l.threads) - 1; i >= 0; i-- {
		th, core := l.threads[i], t.cores[t.threads[i]]
		if err := facets.Rearm(th, l.arena, r.store, core); err != nil {
			return err
		}
		if i == 0 {
			if err := l.arena.Unmap(th, l.arena.Syscall()); err != nil {
				return err
			}
		}
		if err := facets.SetRegisters(th, r.store, core); err != nil {
			return err
		}
	}
	return nil
}

// release is the point of no return: from the first detach on, tasks run.
// Ones that were stopped by job control stop again at once.
func (r *restore) release() error {
	r.undo.Release()
	var errs []error
	for _, t := range r.tree.tasks {
		if t.zombie {
			continue
		}
		sig := unix.Signal(0)
		if t.core().GetTc().GetTaskState() == taskStopped {
			sig = unix.SIGSTOP
		}
		for _, th := range t.live.threads {
			if err := tracee.Detach(th.TID, sig); err != nil && !errors.Is(err, tracee.ErrGone) {
				errs = append(errs, fmt.Errorf("%v: %w", t, err))
			}
			sig = 0
		}
	}
	return errors.Join(errs...)
}

// makeZombies ends the tasks that had ended at the dump, the way they had.
func (r *restore) makeZombies() error {
	for _, t := range r.tree.tasks {
		if !t.zombie {
			continue
		}
		if err := r.makeZombie(t); err != nil {
			return fmt.Errorf("%v: %w", t, err)
		}
	}
	return nil
}

func (r *restore) makeZombie(t *task) error {
	l := t.live
	b := l.arena.Batch(l.thread)
	b.Call("prctl", unix.SYS_PRCTL, unix.PR_SET_NAME, uint64(b.String(t.core().GetTc().GetComm())))
	status := unix.WaitStatus(t.core().GetTc().GetExitCode())
	none := b.U64(0, 0)
	b.Call("setrlimit", unix.SYS_PRLIMIT64, 0, unix.RLIMIT_CORE, uint64(none), 0)
	if err := b.Run(); err != nil {
		return err
	}
	if err := end(l.thread, l.arena, status); err != nil {
		return err
	}
	return awaitExit(l.thread.TID, status)
}

// end makes a thread exit, or die of a signal.
func end(th *remote.Thread, a *remote.Arena, status unix.WaitStatus) error {
	b := a.Batch(th)
	if status.Signaled() {
		// Its action is the default one, and it is blocked until the mask
		// below: the kernel kills at the next step.
		b.Call("kill", unix.SYS_KILL, uint64(th.Tgid), uint64(status.Signal()))
		zero := b.U64(0)
		b.Call("rt_sigprocmask", unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uint64(zero), 0, 8)
	} else {
		b.Call("exit_group", unix.SYS_EXIT_GROUP, uint64(status.ExitStatus()))
	}
	return b.Start()
}

func awaitExit(tid proc.TID, want unix.WaitStatus) error {
	for {
		s, err := tracee.Wait(tid)
		if err != nil {
			return err
		}
		if s.Exited() {
			return nil
		}
		sig := unix.Signal(0)
		if want.Signaled() && s.Event() == 0 && s.Signal() == want.Signal() {
			sig = s.Signal()
		}
		if err := tracee.Cont(tid, sig); err != nil {
			return err
		}
	}
}
