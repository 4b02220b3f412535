package dump

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/tracee"
)

// thaw lets the whole tree go on as it was before the freeze. It runs on
// every path that doesn't kill; a thread that is gone meanwhile (somebody
// killed it) is no error.
func (f *freezer) thaw() error {
	errs := []error{f.unmapArenas()}
	for _, th := range f.seized {
		if err := th.Release(); err != nil && !errors.Is(err, tracee.ErrGone) {
			errs = append(errs, fmt.Errorf("%v: let thread %d go: %w", th.Task, th.TID, err))
		}
	}
	f.seized = nil
	return errors.Join(errs...)
}

// unmapArenas takes our memory out of all tasks.
func (f *freezer) unmapArenas() error {
	var errs []error
	for _, t := range f.tree.Tasks {
		if t.Arena == nil {
			continue
		}
		if err := t.Arena.Unmap(&t.Leader().Thread, t.Insn); err != nil && !errors.Is(err, tracee.ErrGone) {
			errs = append(errs, err)
		}
		t.Arena = nil
	}
	return errors.Join(errs...)
}

// stopAll leaves the tree stopped by SIGSTOP instead of running
// (--leave-stopped).
func (f *freezer) stopAll() {
	for _, th := range f.seized {
		th.StopOnRelease()
	}
}

// kill ends the tree. Children die before their parents, so that none is
// handed to a task that is about to die, and every thread is waited for:
// when this returns the tree is gone but for zombies that its parent has to
// reap.
func (f *freezer) kill() error {
	for i := len(f.tree.Tasks) - 1; i >= 0; i-- {
		t := f.tree.Tasks[i]
		if t.Zombie {
			continue
		}
		if err := unix.PidfdSendSignal(t.Pidfd.Int(), unix.SIGKILL, nil, 0); err != nil && err != unix.ESRCH {
			return fmt.Errorf("%v: kill: %w", t, err)
		}
		if err := reap(t); err != nil {
			return err
		}
	}
	f.seized = nil
	return nil
}

// reap waits for the deaths of all threads of a killed task: a traced thread
// stays a zombie until its tracer has seen it, the leader last.
func reap(t *scan.Task) error {
	for i := len(t.Threads) - 1; i >= 0; i-- {
		if err := waitDeath(t.Threads[i].TID); err != nil {
			return fmt.Errorf("%v: %w", t, err)
		}
	}
	return nil
}

func waitDeath(tid proc.TID) error {
	for {
		s, err := tracee.Wait(tid)
		if errors.Is(err, tracee.ErrGone) || err == nil && s.Exited() {
			return nil
		}
		if err != nil {
			return err
		}
		if err := tracee.Cont(tid, 0); err != nil && !errors.Is(err, tracee.ErrGone) {
			return err
		}
	}
}

func (f *freezer) close() {
	for _, t := range f.tree.Tasks {
		t.Dir.Close()
		t.Pidfd.Close()
	}
}
