package dump

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"glis.dev/glis/internal/cgroupfs"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/scan"
)

// With --freeze-cgroup a cgroup stands still while its tasks are found and
// seized, so that none comes or goes meanwhile, and one that its user had frozen
// can be dumped. It runs again, as far as the kernel is concerned, before the
// first task is asked for anything: a frozen one would not answer.

// openHold opens that cgroup, before the freeze, and refuses a tree that stands
// still in one which the user has not named.
func (d *dump) openHold() error {
	if d.opts.FreezeCgroup == "" {
		return d.notFrozen()
	}
	held, err := cgroupfs.OpenFreezer(d.opts.FreezeCgroup)
	if err != nil {
		return fmt.Errorf("--freeze-cgroup: %w", err)
	}
	d.freezer.held = held
	return d.guard.Frozen(held.Path(), held.Was)
}

// notFrozen refuses a tree whose root a cgroup keeps from running.
func (d *dump) notFrozen() error {
	dir, err := proc.Open(proc.PID(d.opts.Tree))
	if err != nil {
		return nil // the freeze says so
	}
	defer dir.Close()
	st, err := dir.Stat()
	if err != nil {
		return nil
	}
	frozen := false
	switch st.State {
	case 'S':
		frozen = trapped(dir)
	case 'D':
		frozen = inFrozenCgroup(dir)
	}
	if !frozen {
		return nil
	}
	return kind.Unsupported(fmt.Sprintf("process %d", d.opts.Tree), "its cgroup is frozen; give that with --freeze-cgroup, or thaw it")
}

// trapped tells whether a task sleeps where a cgroup of version 2 has it wait. One
// that is stopped doesn't sleep.
func trapped(dir *proc.Dir) bool {
	at, err := dir.Wchan()
	return err == nil && (at == "get_signal" || at == "do_freezer_trap") // one may be within the other
}

// inFrozenCgroup tells whether a task is in a frozen cgroup of version 1: it
// stands still wherever it is in the kernel.
func inFrozenCgroup(dir *proc.Dir) bool {
	all, err := dir.Cgroups()
	if err != nil {
		return false
	}
	i := slices.IndexFunc(all, func(c proc.Cgroup) bool { return slices.Contains(strings.Split(c.Controllers, ","), "freezer") })
	if i < 0 {
		return false
	}
	h, err := cgroupfs.Open(all[i].Controllers)
	if err != nil {
		return false
	}
	defer h.Close()
	in, err := h.Dir(all[i].Path)
	if err != nil {
		return false
	}
	defer in.Close()
	state, err := in.Read("freezer.state")
	return err == nil && state != cgroupfs.Thawed // a root has no such file
}

// closeHold lets go of a cgroup that was frozen for the dump; one that was
// frozen before is so again, unless nobody is left in it.
func (d *dump) closeHold() {
	if err := errors.Join(d.freezer.refreeze(), d.freezer.held.Close()); err != nil {
		d.log.Error("The cgroup of --freeze-cgroup could not be frozen again", "err", err)
	}
}

// refreeze freezes a cgroup again that was frozen before the dump.
func (f *freezer) refreeze() error {
	if f.held == nil || !f.held.Was || f.held.Empty() {
		return nil
	}
	return f.held.Set(true)
}

// mostSeizing is after which time a cgroup is let go though not all of the tree is
// seized. What comes meanwhile is found as in a tree that nobody froze.
const mostSeizing = 50 * time.Millisecond

// seizeHeld seizes the tree while its cgroup stands still, and returns children
// that have come since.
func (f *freezer) seizeHeld(pid proc.PID) ([]proc.PID, error) {
	if err := errors.Join(f.held.Set(true), f.held.Await(f.ended)); err != nil {
		return nil, errors.Join(err, f.held.Set(false))
	}
	// In a frozen cgroup of version 1 the kernel doesn't let go of who seizes a task
	// that is stopped (SIGSTOP) until that runs into its trap, which it does not.
	thawed := make(chan struct{})
	thaw := time.AfterFunc(mostSeizing, func() {
		_ = f.held.Set(false) // what fails here fails below, too
		close(thawed)
	})
	tasks, err := f.seizeAll(pid)
	if !thaw.Stop() {
		<-thawed
	}
	if err = errors.Join(err, f.held.Set(false)); err != nil {
		return nil, err
	}
	for _, t := range tasks {
		for _, th := range append([]*scan.Thread(nil), f.seized...) {
			if th.Task != t {
				continue
			}
			if err := f.await(th); err != nil {
				return nil, err
			}
		}
	}
	if err := f.stop(tasks); err != nil {
		return nil, err
	}
	return f.newChildren()
}

// seizeAll asks all threads of the tree to stop, and awaits none.
func (f *freezer) seizeAll(pid proc.PID) ([]*scan.Task, error) {
	var all []*scan.Task
	for level := []proc.PID{pid}; len(level) > 0; {
		tasks, err := f.add(level)
		if err != nil {
			return nil, err
		}
		for _, t := range tasks {
			if _, err := f.seize(t); err != nil {
				return nil, err
			}
		}
		all = append(all, tasks...)
		if level, err = f.newChildren(); err != nil {
			return nil, err
		}
	}
	return all, nil
}
