package restore

import (
	"context"
	"slices"

	"glis.dev/glis/internal/kind/mem"
	"glis.dev/glis/internal/linux"
)

// A task that shares more memory with an older sibling than with their parent, which has
// written to its own since, is cloned by that sibling (CLONE_PARENT), its elder, as soon as
// all is in the elder's memory, and before that makes its own session or group.

// planElders decides who is cloned so. Of all others that the images say it of memory is
// compared with the parent's.
func (tr *tree) planElders() {
	for _, p := range tr.tasks {
		for _, kids := range []*[]*task{&p.birth.early, &p.birth.late} {
			all := slices.Clone(*kids)
			*kids = slices.DeleteFunc(*kids, func(c *task) bool { return c.joinElder(tr.elderOf(c), all) })
		}
	}
	for _, t := range tr.tasks {
		if !t.zombie {
			t.space.CloneOf(t.birth.elder != nil)
		}
	}
}

// elderOf returns the task that the images say is a task's elder, nil if there is none, or
// that could not clone anybody with memory of its own, or would leave mappings in parts.
func (tr *tree) elderOf(c *task) *task {
	if c.zombie || c.space.Elder() == 0 {
		return nil
	}
	e := tr.byPID[c.space.Elder()]
	if e == nil || e.zombie || e.space.Elder() != 0 || e.space.HasRings() || c.parent == nil || c.parent.zombie || c.space.CutBy(e.space, c.parent.space) {
		return nil
	}
	return e
}

// joinElder has a task be cloned by its elder, if that can be one of those that are cloned at
// the same time. e may be nil.
func (t *task) joinElder(e *task, siblings []*task) bool {
	if e == nil || e == t || !slices.Contains(siblings, e) || !e.plain() ||
		!t.plain() || t.sharesFiles() || t.sharesFS() || e.birth.session != t.birth.session {
		return false
	}
	t.birth.elder, e.birth.juniors = e, append(e.birth.juniors, t)
	return true
}

// plain tells whether nothing is special about how a task is cloned by its parent.
func (t *task) plain() bool {
	b := &t.birth
	return !b.helper && b.by == nil && len(b.clones) == 0 && b.afar == nil && !b.leads && !b.lends && !b.groupHelper
}

// forkOf returns the memory that a task begins as a copy of; nil if it is of nobody of the
// tree.
func (t *task) forkOf() *mem.Space {
	switch {
	case t.parent == nil || t.birth.afar != nil:
		return nil
	case t.birth.elder != nil:
		return t.birth.elder.space
	}
	return t.parent.space
}

// cloneJuniors has a task clone those that it is the elder of.
func (r *restore) cloneJuniors(ctx context.Context, t *task, before *relay) error {
	var orders []birthOrder
	for _, c := range t.birth.juniors {
		orders = append(orders, birthOrder{c, c.pid, linux.CLONE_PARENT, exitSignal(linux.CLONE_PARENT)})
	}
	for some := range slices.Chunk(orders, clonesAtOnce) {
		if err := r.cloneAll(t.live, some); err != nil {
			return err
		}
	}
	for _, c := range t.birth.juniors {
		if err := r.build(ctx, c, before); err != nil {
			return err
		}
	}
	return nil
}
