package restore

import (
	"fmt"

	"glis.dev/glis/image"
	cgimg "glis.dev/glis/image/criu/cgroup"
	criu_core "glis.dev/glis/image/criu/criu-core"
	"glis.dev/glis/internal/kind/cgroup"
	"glis.dev/glis/options"
)

// planCgroups reads which cgroups there have to be, and who is in which.
func (r *restore) planCgroups() error {
	if r.opts.Cgroups == options.CgroupIgnore {
		return nil
	}
	all, err := image.ReadOptional[*cgimg.CgroupEntry](r.store, image.Cgroup)
	if err != nil || len(all) == 0 {
		return err // all are where Glis is
	}
	if r.cgroups, err = cgroup.NewMaker(all[0], r.tree.inventory.GetRootCgSet(), r.opts); err != nil {
		return err
	}
	for _, t := range r.tree.tasks {
		for i := range t.images {
			if err := r.cgroups.Check(t.images[i].set); err != nil {
				return fmt.Errorf("%v: %w", t, err)
			}
		}
	}
	return nil
}

// setOf is the number of the set of cgroups that a thread is in; 0 if the images
// don't say, as of a task that has ended.
func setOf(c *criu_core.CoreEntry) uint32 {
	if n := c.GetThreadCore().GetCgSet(); n != 0 {
		return n
	}
	return c.GetTc().GetCgSet() // of older versions of criu
}

// makeCgroups makes those that are missing.
func (r *restore) makeCgroups() error {
	if r.cgroups == nil {
		return nil
	}
	return r.cgroups.Make(cgroup.Hooks{Undo: r.undo.Push, Made: r.guard.Cgroup, Warn: r.log.Warn})
}

// enterCgroups moves a task that was just cloned, and has no memory of its own
// yet, to where it belongs. Its children begin there.
func (r *restore) enterCgroups(t *task, l *live) error {
	if len(t.images) == 0 || t.images[0].set == 0 || t.zombie {
		return nil // a helper has none
	}
	set := t.images[0].set
	if err := r.cgroups.Enter(int(l.thread.Tgid), l.cgroups, set); err != nil {
		return fmt.Errorf("%v: %w", t, err)
	}
	l.cgroups = set
	return nil
}

// spreadThreads moves threads that are elsewhere than their leader.
func (r *restore) spreadThreads(t *task) error {
	for i, th := range t.live.threads[1:] {
		if err := r.cgroups.EnterThread(int(th.TID), t.live.cgroups, t.images[i+1].set); err != nil {
			return fmt.Errorf("%v: thread %d: %w", t, th.TID, err)
		}
	}
	return nil
}

// freezeCgroups stops a tree that was dumped from cgroups that were frozen.
func (r *restore) freezeCgroups() {
	if err := r.cgroups.Freeze(); err != nil {
		r.log.Error("The tree runs, but its cgroup could not be frozen as it was", "err", err)
	}
}
