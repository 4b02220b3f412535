package restore

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/guardian"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/proc"
)

// Tasks that were left to one above the parent they had, which was in another session, as what a
// login shell leaves to an init: who is in that session clones them as such a one did.

// mostAfar bounds how many those are, as each is looked for among all of its session.
const mostAfar = 1000

// planAfar decides who clones the tasks that nobody can clone as a child of its own or as a
// sibling: one of its session below its parent, which is there before.
func (tr *tree) planAfar() error {
	if len(tr.afar) > mostAfar {
		return fmt.Errorf("%v and %d others are in sessions that their parents have never been in: Glis can't put them there yet", tr.afar[0], len(tr.afar)-1)
	}
	waits := map[*task]bool{}
	for _, c := range tr.afar {
		waits[c] = true
	}
	var order []*task
	for len(waits) > 0 {
		n := len(waits)
		for _, c := range tr.afar {
			if !waits[c] {
				continue
			}
			if c.birth.afar = tr.cloner(c, waits); c.birth.afar == nil {
				continue
			}
			if shared(c) != 0 {
				return fmt.Errorf("%v: it is in session %d, which its parent %v, with which it shares descriptors or directories, has never been in: Glis can't put it there yet", c, c.birth.want, c.parent)
			}
			delete(waits, c)
			order = append(order, c)
		}
		if len(waits) == n {
			c := tr.afar[slices.IndexFunc(tr.afar, func(c *task) bool { return waits[c] })]
			return fmt.Errorf("%v: it is in session %d, which its parent %v has never been in: Glis can't put it there yet", c, c.birth.want, c.parent)
		}
	}
	for _, c := range order {
		m := c.birth.afar
		m.birth.leads = m.zombie && m.sid == m.pid
	}
	tr.afar = order
	return nil
}

// cloner finds one of the session that c is cloned into, below the parent of c, that is there
// while those that wait are not.
func (tr *tree) cloner(c *task, waits map[*task]bool) *task {
	for _, m := range tr.tasks {
		if m.sid == c.birth.want && c.parent.above(m) && !m.behind(waits) {
			return m
		}
	}
	return nil
}

// behind tells whether a task, or one above it, is among those that wait.
func (t *task) behind(waits map[*task]bool) bool {
	for ; t != nil; t = t.parent {
		if waits[t] {
			return true
		}
	}
	return false
}

// above tells whether a task is above another.
func (t *task) above(o *task) bool {
	for o = o.parent; o != nil; o = o.parent {
		if o == t {
			return true
		}
	}
	return false
}

// below tells whether the leader of a session is below a task.
func (tr *tree) below(t *task, session uint32) bool {
	l := tr.byPID[session]
	return l != nil && l.sid == l.pid && t.above(l)
}

// deeper has t have the helper of a session, not o, which is above t: o's children are cloned
// afar then. It tells whether that can be.
func (tr *tree) deeper(o, t *task, session uint32) bool {
	if !o.above(t) {
		return false
	}
	o.birth.late = slices.DeleteFunc(o.birth.late, func(c *task) bool {
		if !c.birth.helper || c.birth.session != session || c == t || c.above(t) {
			return false
		}
		c.birth.helper = false
		tr.afar = append(tr.afar, c)
		return true
	})
	return !slices.ContainsFunc(o.birth.late, func(c *task) bool { return c.birth.helper && c.birth.session == session })
}

// makeAfar makes the tasks that are cloned when all others are there.
func (r *restore) makeAfar(ctx context.Context, before *relay) error {
	for _, c := range r.tree.afar {
		err := before.end()
		if err == nil {
			err = r.cloneAfar(c)
		}
		if err == nil {
			err = r.cloneBesides(ctx, c)
		}
		if err == nil {
			err = r.build(ctx, c, before)
		}
		if err != nil {
			return fmt.Errorf("%v: %w", c, err)
		}
	}
	return nil
}

// cloneAfar has one of its session clone a task, as its sibling, or as a child of its child, which
// ends and leaves it to the parent.
func (r *restore) cloneAfar(c *task) (err error) {
	m, parent := c.birth.afar, c.parent
	if m.parent == parent {
		return r.clone(m.live, c, linux.CLONE_PARENT)
	}
	if err := setSubreaper(parent, 1); err != nil {
		return err
	}
	h, err := r.between(m)
	if err != nil {
		return err
	}
	if err := r.clone(h.live, c, 0); err != nil {
		return err
	}
	if err := kill(h.live); err != nil {
		return err
	}
	if err := r.reapHelper(m.live, h.pid); err != nil {
		return err
	}
	return setSubreaper(parent, 0)
}

// setSubreaper has a task get what those below it leave, or no longer.
func setSubreaper(t *task, on uint64) error {
	b := t.live.arena.Batch(t.live.thread)
	b.Call("prctl(PR_SET_CHILD_SUBREAPER)", unix.SYS_PRCTL, unix.PR_SET_CHILD_SUBREAPER, on)
	err := b.Run()
	t.live.arena.Reset()
	return err
}

// between has a task clone a process that nobody hears of, with a number that the tree doesn't have.
func (r *restore) between(m *task) (*task, error) {
	const most = 1000 // numbers that others have
	n := r.tree.highest()
	for range most {
		if n++; unix.Kill(int(n), 0) != unix.ESRCH {
			continue // somebody else's, whose end the guardian would wait for
		}
		h := &task{pid: n}
		if err := r.guard.Task(guardian.Task{PID: proc.PID(n)}); err != nil {
			return nil, err
		}
		_, err := r.cloneFirst(m.live, []birthOrder{{h, n, 0, 0}})
		switch {
		case err == nil:
			return h, nil
		case errors.Is(err, unix.EINVAL): // there are no higher ones
			n = r.tree.lowestFree()
		case !errors.Is(err, unix.EEXIST):
			return nil, err
		}
	}
	return nil, fmt.Errorf("%d process numbers that the tree doesn't have are in use", most)
}

// numbers returns all that the tree has, sorted.
func (tr *tree) numbers() (all []uint32) {
	for _, t := range tr.tasks {
		all = append(append(all, t.pid, t.sid, t.pgid), t.threads...)
	}
	slices.Sort(all)
	return all
}

func (tr *tree) highest() uint32 { return slices.Max(tr.numbers()) }

// lowestFree returns a number behind which others of a gap are free, as far as the tree goes.
func (tr *tree) lowestFree() uint32 {
	const reserved = 300 // RESERVED_PIDS, kernel/pid.c
	n := uint32(reserved)
	for _, x := range tr.numbers() {
		if x > n+1000 {
			break
		}
		n = max(n, x)
	}
	return n
}
