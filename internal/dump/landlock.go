package dump

import (
	"slices"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/taskmem"
)

// A Landlock sandbox is seen in the kernel's memory only. To prepare for that takes
// milliseconds, so it is looked for where a thread may get no new privileges, which
// all must say who restrict themselves without CAP_SYS_ADMIN; and where one may not mount
// in spite of that capability.

// openLandlock prepares for a tree of which a task may be in one.
func (d *dump) openLandlock(pids []proc.PID) {
	for _, pid := range pids {
		p, err := proc.Living(pid)
		if err != nil {
			continue
		}
		s, err := p.ThreadStatus(proc.TID(pid))
		_ = p.Close()
		if err == nil && s.NoNewPrivs {
			d.loadLandlock()
			return
		}
	}
}

// loadLandlock loads what looks, once.
func (d *dump) loadLandlock() {
	if d.askedLandlock {
		return
	}
	d.askedLandlock = true
	if !taskmem.HasLandlock() {
		return
	}
	var err error
	if d.sandboxes, err = taskmem.OpenLandlock(); err != nil {
		d.log.Warn("If a task is in a Landlock sandbox, that is lost: it can't be looked for", "err", err)
	}
}

// noLandlock refuses tasks that are in one.
func (d *dump) noLandlock() error {
	for _, t := range d.tree.Tasks {
		if t.Zombie || !mayBeIn(t) {
			continue
		}
		if err := d.ended(); err != nil {
			return err
		}
		if d.loadLandlock(); d.sandboxes == nil {
			return nil
		}
		if err := d.notIn(t); err != nil {
			return err
		}
	}
	return nil
}

// notIn refuses a task that is in one.
func (d *dump) notIn(t *scan.Task) error {
	in, err := d.inLandlock(t)
	if err != nil {
		return kind.About(t, err)
	}
	if in {
		return kind.Unsupported(t, "it is in a Landlock sandbox (landlock_restrict_self(2)), which a restored task would not have; start it without, or end it")
	}
	if d.sandboxes.Shared() && !d.saidSandbox {
		d.saidSandbox = true
		d.log.Warn("The tree is in the Landlock sandbox that Glis is in, which is not saved: it has to be restored from within")
	}
	return nil
}

// noConfined refuses tasks that are in one without having said that they get no new
// privileges, once threads were asked what they may do.
func (d *dump) noConfined() error {
	for _, t := range d.tree.Tasks {
		if !slices.ContainsFunc(t.Threads, func(th *scan.Thread) bool { return th.Confined }) {
			continue
		}
		if d.loadLandlock(); d.sandboxes == nil {
			return kind.Unsupported(t, "it may not mount in spite of CAP_SYS_ADMIN, as in a Landlock sandbox (landlock_restrict_self(2)), which a restored task would not have, and whether it is in one can't be looked at (CAP_BPF, BTF); start it without, or end it")
		}
		if err := d.notIn(t); err != nil {
			return err
		}
	}
	return nil
}

func mayBeIn(t *scan.Task) bool {
	for _, th := range t.Threads {
		if th.Status != nil && th.Status.NoNewPrivs {
			return true
		}
	}
	return false
}

func (d *dump) inLandlock(t *scan.Task) (bool, error) {
	if t.Ended == nil {
		return d.sandboxes.Any(t.Pidfd.Int(), len(t.Threads))
	}
	p, err := fd.Task(int(t.PID))
	if err != nil {
		return false, err
	}
	defer p.Close()
	return d.sandboxes.Any(p.Int(), len(t.Threads)+1)
}
