package restore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/arch"
	"glis.dev/glis/internal/event"
	facets "glis.dev/glis/internal/kind/task"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/remote"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/tracee"
)

// resume gives every thread its registers, takes our memory out of the tasks
// and lets them go. Nothing of a task's own has run before.
//
// The leader of a task is the one that unmaps the arena; at the exit of that
// system call it gets its registers. The leaders of all tasks do so at the
// same time.
func (r *restore) resume(ctx context.Context) error {
	living := slices.DeleteFunc(slices.Clone(r.tree.tasks), func(t *task) bool { return t.zombie })
	for _, f := range []func(*task) error{
		r.ready,
		func(t *task) error { return t.live.arena.StartUnmap(t.live.thread, t.live.arena.Syscall()) },
		func(t *task) error { return t.live.arena.FinishUnmap(t.live.thread) },
		wakeLeader,
	} {
		for _, t := range living {
			if err := f(t); err != nil {
				return fmt.Errorf("%v: %w", t, err)
			}
		}
	}
	return r.release(ctx)
}

// ready makes the threads of a task, but for the leader, ready to go on where
// they were, and has the leader be as it was in its system call.
func (r *restore) ready(t *task) error {
	for i, th := range t.live.threads {
		if i == 0 && !t.images[0].slept {
			continue
		}
		images, err := t.images[i].whole()
		if err != nil {
			return err
		}
		if err := facets.Rearm(th, t.live.arena, images.wake); err != nil {
			return err
		}
		if i == 0 {
			t.images[0].wake = images.wake // which is another one by now than its entry says
		} else if err := setRegisters(th, images.wake); err != nil {
			return err
		}
	}
	return nil
}

// wakeLeader sets what the first thread of a task begins to run with.
func wakeLeader(t *task) error {
	w := t.images[0].wake
	if w == nil {
		whole, err := t.images[0].whole()
		if err != nil {
			return err
		}
		w = whole.wake
	}
	return setRegisters(t.live.thread, w)
}

// setRegisters sets what a thread begins to run with.
func setRegisters(th *remote.Thread, w *facets.Wake) error {
	if err := tracee.SetXState(th.TID, arch.PadXState(w.XState)); err != nil {
		return err
	}
	if err := tracee.SetRegs(th.TID, &w.Regs); err != nil {
		return err
	}
	return tracee.SetSigmask(th.TID, w.Mask)
}

// release lets the tree live: packets come through, then tasks run. Ones that
// were stopped by job control stop again at once, and all of them with
// --leave-stopped.
func (r *restore) release(ctx context.Context) error {
	if err := r.commit(); err != nil {
		return err
	}
	r.undo.Release()
	errs := []error{r.letThrough()}
	r.tell(ctx, event.PreResume)
	defer r.tell(ctx, event.PostResume)
	errs = append(errs, r.unbrake())
	for _, t := range r.tree.tasks {
		if t.zombie {
			continue
		}
		sig := unix.Signal(0)
		if r.stops(t) {
			sig = r.stopSignal(t)
		}
		errs = append(errs, letGo(t, sig))
	}
	r.freezeCgroups()
	r.awaitStops()
	r.lived = errors.Join(errs...)
	return nil
}

// letGo lets the threads of a task go, the first of those that stay with a signal,
// or with 0. If that stops it, it does so before others run: they would take signals that
// wait until the task goes on. So would it: the kernel gives a thread the lowest of its own first.
func letGo(t *task, sig unix.Signal) error {
	var errs []error
	for i, th := range t.live.threads {
		var err error
		if i == 0 && t.firstEnds() {
			err = endFirst(t)
		} else {
			if sig != 0 && t.images[i].waiting&^t.images[i].mask != 0 {
				err = tracee.FetchStop(proc.PID(t.pid), th.TID, t.images[i].mask)
			}
			err = errors.Join(err, tracee.Detach(th.TID, sig))
			if sig != 0 && err == nil && i < len(t.live.threads)-1 {
				awaitStop(uint32(th.TID), time.Now().Add(longestStop))
			}
			sig = 0
		}
		if err != nil && !errors.Is(err, tracee.ErrGone) {
			errs = append(errs, fmt.Errorf("%v: %w", t, err))
		}
	}
	return errors.Join(errs...)
}

// longestStop is how long tasks that are to be stopped are waited for.
const longestStop = time.Second

// awaitStops waits until tasks that are to be stopped are: they are on their
// way there when they are let go, and a SIGCONT that somebody sends them after
// the restore would come before the stop. Nobody tells when they are, unless
// they are children; one that somebody has woken already does not stop.
func (r *restore) awaitStops() {
	end := time.Now().Add(longestStop)
	for _, t := range r.tree.tasks {
		if !t.zombie && r.stops(t) {
			awaitStop(t.pid, end)
		}
	}
}

// awaitStop waits until a thread is stopped, or gone.
func awaitStop(tid uint32, end time.Time) {
	for time.Now().Before(end) && !stopped(tid) {
		time.Sleep(100 * time.Microsecond)
	}
}

// stopped tells whether a thread is stopped, or gone.
func stopped(tid uint32) bool {
	d, err := proc.Open(proc.PID(tid))
	if err != nil {
		return true
	}
	defer d.Close()
	stat, err := d.Stat()
	return err != nil || strings.ContainsRune("TtZX", rune(stat.State))
}

// stops tells whether a task is to be stopped by SIGSTOP when it is let go.
func (r *restore) stops(t *task) bool {
	return r.opts.LeaveStopped || t.state == taskStopped
}

// stopSignal is what a task is stopped by: what it was stopped by, which its
// parent may ask for, if that stops it for sure. The kernel does not let SIGTSTP
// and its like stop a task that has nobody in its session who could wake it.
func (r *restore) stopSignal(t *task) unix.Signal {
	leader, err := r.tree.leaderOf(t)
	if err != nil {
		return unix.SIGSTOP // and what is told to the parent is lost
	}
	sig := unix.Signal(leader.core.GetTc().GetStopSigno())
	switch sig {
	case unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU:
		if !r.tree.orphaned(t) && facets.Default(leader.core, sig) {
			return sig
		}
	}
	return unix.SIGSTOP
}

// orphaned tells whether no task of the tree could wake the stopped ones of a
// task's group, see setpgid(2).
func (tr *tree) orphaned(t *task) bool {
	return !slices.ContainsFunc(tr.tasks, func(o *task) bool {
		return !o.zombie && o.pgid == t.pgid && o.pgid != foreign && o.parent != nil && o.parent.sid == o.sid && o.parent.pgid != o.pgid
	})
}

// tell tells observers of a point behind the last one where they can refuse.
func (r *restore) tell(ctx context.Context, p event.Point) {
	if err := r.obs.Notify(ctx, p, r.rootPID()); err != nil {
		r.log.Error("The tree is to live all the same", "err", err)
	}
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
	th := t.live.thread
	b := t.live.arena.Batch(th)
	sig, err := facets.Die(b, scan.VPID(t.pid), t.images[0].core)
	if err != nil {
		return err
	}
	if sig == 0 { // it exits by itself
		if err := b.Start(); err != nil {
			return err
		}
		return tracee.AwaitDeath(th.TID)
	}
	if err := b.Run(); err != nil {
		return err
	}
	if err := tracee.SetSigmask(th.TID, 0); err != nil {
		return err
	}
	// With the signal as what the thread goes on with, it dies of it.
	if err := tracee.Cont(th.TID, sig); err != nil {
		return err
	}
	return tracee.AwaitDeath(th.TID)
}
