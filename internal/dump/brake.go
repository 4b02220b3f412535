package dump

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/remote"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/tracee"
	"glis.dev/glis/internal/undo"
)

// While sockets of the tree are in a state in which the tree must not meet
// them, its tasks are braked: should the engine die, they stay stopped until
// the guardian has put the sockets right. So they are before the commit, until the
// guardian has killed them.

// brakes is who is braked.
type brakes struct {
	tasks  map[*scan.Task]bool
	tables map[uint32]bool // tables of descriptors all of whose tasks are
	all    bool
}

// brake brakes all tasks that are not stopped anyway.
func (d *dump) brake() error {
	d.brakes.all = true
	return d.brakeTasks(d.tree.Tasks)
}

// brakeUsers brakes the tasks that may get to meet a file.
func (d *dump) brakeUsers(f *scan.File) error {
	if d.brakes.all {
		return nil
	}
	if f.Within != nil {
		return d.brake()
	}
	for _, u := range f.Users {
		table := u.Task.IDs.Files
		if d.brakes.tables[table] {
			continue
		}
		others := func(t *scan.Task) bool { return t.IDs.Files != table }
		if err := d.brakeTasks(slices.DeleteFunc(slices.Clone(d.tree.Tasks), others)); err != nil {
			return err
		}
		if d.brakes.tables == nil {
			d.brakes.tables = map[uint32]bool{}
		}
		d.brakes.tables[table] = true
	}
	return nil
}

// brakeTasks brakes those of some tasks that are not yet, and not stopped anyway.
func (d *dump) brakeTasks(some []*scan.Task) error {
	var fresh []*scan.Task
	var pids []proc.PID
	for _, t := range some {
		if !d.brakes.tasks[t] && !t.Zombie && !t.Stopped && !waits(t) {
			fresh, pids = append(fresh, t), append(pids, t.PID)
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	if err := d.guard.Brake(pids...); err != nil {
		return err
	}
	if d.brakes.tasks == nil {
		d.brakes.tasks = map[*scan.Task]bool{}
	}
	for _, t := range fresh {
		if err := tracee.Brake(t.PID); err != nil {
			return fmt.Errorf("%v: %w", t, err)
		}
		d.brakes.tasks[t] = true
	}
	return nil
}

// forgotten are signals that the kernel forgets over the one that stops a task, and the one that
// takes that back.
const forgotten = 1<<(unix.SIGCONT-1) | 1<<(unix.SIGTSTP-1) | 1<<(unix.SIGTTIN-1) | 1<<(unix.SIGTTOU-1)

// waits tells whether such a signal waits for a task.
func waits(t *scan.Task) bool {
	return slices.ContainsFunc(t.Threads, func(th *scan.Thread) bool {
		return (th.Status.SigPnd|th.Status.ShdPnd)&forgotten != 0
	})
}

// unbrake has every task fetch what stops it. Those that could not stay braked:
// a second call tries again, and the guardian knows of them.
func (d *dump) unbrake() error {
	var errs []error
	begun := map[*scan.Task]*remote.Batch{}
	braked := d.brakes.tasks
	d.brakes = brakes{tasks: map[*scan.Task]bool{}}
	keep := func(t *scan.Task, err error) {
		if err = alive(err); err != nil {
			d.brakes.tasks[t] = true
			errs = append(errs, fmt.Errorf("%v: take the brake off: %w", t, err))
		}
	}
	for t := range braked {
		b, err := d.startUnbrake(t)
		if err != nil {
			keep(t, err)
			continue
		}
		begun[t] = b
	}
	for t, b := range begun {
		keep(t, b.Wait())
	}
	for t := range braked {
		for _, th := range t.Threads {
			th.ForgetStop() // a call of ours may have met it
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	return undo.Again(d.guard.Unbraked)
}

func (d *dump) startUnbrake(t *scan.Task) (*remote.Batch, error) {
	if err := undo.Again(func() error { return alive(tracee.LooseBrake(t.PID)) }); err != nil {
		return nil, err
	}
	if err := d.haveArena(t); err != nil {
		return nil, err
	}
	t.Arena.Reset()
	b := t.Arena.Batch(&t.Leader().Thread)
	set, now := b.U64(1<<(unix.SIGCONT-1)), b.U64(0, 0)
	b.Try("rt_sigtimedwait", unix.SYS_RT_SIGTIMEDWAIT, uint64(set), 0, uint64(now), linux.KernelSigsetSize)
	return b, b.Start()
}
