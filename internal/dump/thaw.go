package dump

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/remote"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/tracee"
	"glis.dev/glis/internal/undo"
)

// thaw lets the whole tree go on as it was before the freeze. It runs on
// every path that doesn't kill; a thread that is gone meanwhile (somebody
// killed it) is no error.
func (f *freezer) thaw() error {
	f.settle()
	errs := []error{f.restoreAll(), f.unmapArenas(), f.refreeze()}
	return errors.Join(append(errs, f.releaseAll())...)
}

// releaseAll lets go of all threads. The first of them want to run while the last
// still stand: of 4000 the last one had to wait for 60 ms, and for 25 since the
// tracer comes before them.
func (f *freezer) releaseAll() error {
	if len(f.seized) >= someThreads {
		defer linux.ComeFirst()()
	}
	var errs []error
	for _, th := range f.seized {
		if err := alive(th.Release()); err != nil {
			errs = append(errs, fmt.Errorf("%v: let thread %d go: %w", th.Task, th.TID, err))
		}
	}
	f.seized = nil
	return errors.Join(errs...)
}

// mend has a thread go on with the call that it was in. What waits for it matters
// only if the call ended because it was stopped.
func (d *dump) mend(th *scan.Thread) error {
	if !remote.Again(&th.Regs, false) {
		return nil
	}
	err := d.readPending(th)
	if leader := th.Task.Leader(); leader != th {
		err = errors.Join(err, d.readPending(leader))
	}
	d.kinds.Thaw(th)
	return err
}

// restoreAll gives every thread its own registers back. Until then they lead
// into the arena of its task, which must stay so long: should we die, that is
// what the thread goes on by. An arena that can't be left stays for good.
func (f *freezer) restoreAll() error {
	var errs []error
	for _, th := range f.seized {
		if err := alive(th.Restore()); err != nil {
			errs = append(errs, fmt.Errorf("%v: restore thread %d: %w", th.Task, th.TID, err))
			th.Task.Arena = nil
		}
	}
	return errors.Join(errs...)
}

// unmapArenas takes our memory out of all tasks, out of all at the same time.
func (f *freezer) unmapArenas() error {
	var errs []error
	var begun []*scan.Task
	for _, t := range f.tree.Tasks {
		if t.Arena == nil {
			continue
		}
		th := &t.Leader().Thread
		if err := t.Arena.StartUnmap(th, t.Insn); err != nil {
			errs = append(errs, alive(err))
			continue
		}
		begun = append(begun, t)
	}
	for _, t := range begun {
		errs = append(errs, alive(t.Arena.FinishUnmap(&t.Leader().Thread)))
		t.Arena = nil
	}
	return errors.Join(errs...)
}

// alive drops an error that says no more than that the thread is gone.
func alive(err error) error {
	if errors.Is(err, tracee.ErrGone) {
		return nil
	}
	return err
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
//
// The checkpoint is complete by then, so it goes on whatever happens: nothing
// of the tree may live twice.
func (f *freezer) kill() error {
	var errs []error
	for _, t := range slices.Backward(f.tree.Tasks) {
		if t.Zombie {
			continue
		}
		if err := undo.Again(func() error { return killOne(t) }); err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, reap(t))
	}
	f.seized = nil
	return errors.Join(errs...)
}

func killOne(t *scan.Task) error {
	if err := unix.PidfdSendSignal(t.Pidfd.Int(), unix.SIGKILL, nil, 0); err != nil && err != unix.ESRCH {
		return fmt.Errorf("%v: kill: %w", t, err)
	}
	return nil
}

// reap waits for the deaths of all threads of a killed task: a traced thread
// stays a zombie until its tracer has seen it, the leader last.
func reap(t *scan.Task) error {
	for i := len(t.Threads) - 1; i >= 0; i-- {
		if err := tracee.AwaitDeath(t.Threads[i].TID); err != nil {
			return kind.About(t, err)
		}
	}
	return nil
}

func (f *freezer) close() {
	for _, t := range f.tree.Tasks {
		t.Dir.Close()
		t.Pidfd.Close()
	}
}
