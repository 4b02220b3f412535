package dump

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/arch"
	"glis.dev/glis/internal/guardian"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/remote"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/tracee"
	"glis.dev/glis/internal/undo"
)

// thaw lets the tree go on, at once or when the tracer's thread ends. Before, the
// kinds mend what stopping a thread did to the system call it was in.
func (d *dump) thaw() error {
	d.memoryOf.Until(nil)
	errs := []error{undo.Again(d.guard.takeBack), d.unbrake()}
	end := d.freezer.unreadUntil()
	for _, th := range d.freezer.seized {
		if arch.IP(&th.Regs) != 0 { // its registers were read
			errs = append(errs, d.mend(th, end))
		}
	}
	errs = append(errs, d.freezer.mendUnread(end))
	err := errors.Join(append(errs, undo.Again(d.passAll), undo.Again(d.guard.TakeBack), d.files.drop(), d.freezer.thaw())...)
	d.harmed = d.harmed || err != nil
	return err
}

// thawed is what is done once the tree was let go, be it that something failed
// before.
func (d *dump) thawed(failed error) error {
	d.log.Debug("the tree runs on")
	d.times.frozen = time.Since(d.start)
	if d.harmed {
		return failed
	}
	err := undo.Again(func() error { return d.guard.Phase(guardian.Thawed) })
	d.harmed = err != nil
	return errors.Join(failed, err)
}

// letGo lets the tree run on before what was learnt is written. Whoever wants to
// look at images and frozen tree side by side has them written before.
func (d *dump) letGo(ctx context.Context) error {
	if d.obs.Listens() {
		if err := d.writeAndShow(ctx); err != nil {
			return errors.Join(err, d.thaw())
		}
	}
	if d.opts.LeaveStopped {
		if err := d.keepStopped(); err != nil {
			return errors.Join(err, d.thaw())
		}
		d.undo.Push("the stop of the tree", d.freezer.continueAll)
		d.freezer.stopAll()
	}
	return d.thaw()
}

// thaw lets the whole tree go on as it was before the freeze: at once, or, what is
// left in seized, when the tracer's thread ends. It runs on every path that doesn't
// kill; a thread that is gone meanwhile (somebody killed it) is no error.
func (f *freezer) thaw() error {
	if len(f.seized) < leftThreads {
		f.settle()
	}
	errs := []error{f.restoreAll(), unmapArenas(f.tree.Tasks), f.refreeze()}
	return errors.Join(append(errs, f.releaseAll())...)
}

// leftThreads is from how many on threads are let go by the end of the tracer's
// thread: a third of the time for each, and also those that have not stopped yet.
const leftThreads = 200

// releaseAll lets go of all threads, or, of many, only of those that have something
// to get from their tracer. The first of them want to run while the last still stand,
// so the tracer comes before them.
func (f *freezer) releaseAll() error {
	if len(f.seized) >= someThreads {
		defer linux.ComeFirst()()
	}
	var errs []error
	var left []*scan.Thread
	for _, th := range f.seized {
		if len(f.seized) >= leftThreads && th.Plain() {
			left = append(left, th)
			continue
		}
		if err := alive(th.Release()); err != nil {
			errs = append(errs, fmt.Errorf("%v: let thread %d go: %w", th.Task, th.TID, err))
		}
	}
	f.seized = left
	return errors.Join(errs...)
}

// settle waits for threads that were asked to stop when the freeze ended, so
// that they can be let go; a signal that stopped one instead is handed on. Some
// can't stop (see tracee.WaitTrapUntil), and nobody waits for them for long:
// the kernel lets go of them when the tracer ends.
func (f *freezer) settle() {
	end := time.Now().Add(mostSettle)
	for th := range f.moving {
		_, _ = tracee.WaitTrapUntil(th.TID, func() error {
			if time.Now().After(end) {
				return context.DeadlineExceeded
			}
			return nil
		})
	}
	clear(f.moving)
}

// mostSettle is how long all of them together are waited for.
const mostSettle = 20 * time.Millisecond

// mend has a thread go on with the call that it was in. What waits for it matters
// only if the call ended because it was stopped. A dump that is cancelled takes no longer
// for that than for threads whose registers it hasn't read: of those that are left the calls
// have ended, as by SIGSTOP and SIGCONT.
func (d *dump) mend(th *scan.Thread, end time.Time) error {
	if !remote.Again(&th.Regs, false) {
		return nil
	}
	late := func() error {
		if d.ended() != nil && time.Now().After(end) {
			return context.DeadlineExceeded
		}
		return nil
	}
	err := readPending(th, late)
	if leader := th.Task.Leader(); leader != th && err == nil {
		err = readPending(leader, late)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	if err == nil {
		d.kinds.Thaw(th)
	}
	return alive(err)
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

// continueAll continues what stopAll has stopped.
func (f *freezer) continueAll() error {
	var errs []error
	for _, t := range f.tree.Tasks {
		if t.Zombie || t.Stopped {
			continue
		}
		if err := unix.Kill(int(t.PID), unix.SIGCONT); err != nil && err != unix.ESRCH {
			errs = append(errs, fmt.Errorf("%v: continue it: %w", t, err))
		}
	}
	return errors.Join(errs...)
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
	f.errors.Close() //nolint:errcheck // it was only read
}
