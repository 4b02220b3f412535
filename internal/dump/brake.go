package dump

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/remote"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/tracee"
)

// While sockets of the tree are in a state in which the tree must not meet
// them, its tasks are braked: should the engine die, they stay stopped until
// the guardian has put the sockets right.

// brake brakes all tasks that are not stopped anyway.
func (d *dump) brake() error {
	for _, t := range d.tree.Tasks {
		if t.Zombie || t.Stopped || waits(t, unix.SIGCONT) {
			continue
		}
		if err := d.guard.Brake(t.PID); err != nil {
			return err
		}
		if err := tracee.Brake(t.PID); err != nil {
			return fmt.Errorf("%v: %w", t, err)
		}
		d.braked = append(d.braked, t)
	}
	return nil
}

// waits tells whether a signal waits for a task: one that the kernel would
// forget over another. Such a task is not braked.
func waits(t *scan.Task, sig unix.Signal) bool {
	bit := uint64(1) << (sig - 1)
	for _, th := range t.Threads {
		if (th.Status.SigPnd|th.Status.ShdPnd)&bit != 0 {
			return true
		}
	}
	return false
}

// unbrake has every task fetch what stops it.
func (d *dump) unbrake() error {
	var errs []error
	var all []*remote.Batch
	for _, t := range d.braked {
		errs = append(errs, alive(tracee.LooseBrake(t.PID)))
		t.Arena.Reset()
		b := t.Arena.Batch(&t.Leader().Thread)
		set, now := b.U64(1<<(unix.SIGCONT-1)), b.U64(0, 0)
		b.Try("rt_sigtimedwait", unix.SYS_RT_SIGTIMEDWAIT, uint64(set), 0, uint64(now), linux.KernelSigsetSize)
		if err := b.Start(); err != nil {
			errs = append(errs, alive(err))
			continue
		}
		all = append(all, b)
	}
	for _, b := range all {
		errs = append(errs, alive(b.Wait()))
	}
	for _, t := range d.braked {
		for _, th := range t.Threads {
			th.ForgetStop() // a call of ours may have met it
		}
	}
	d.braked = nil
	return errors.Join(append(errs, d.guard.Unbraked())...)
}
