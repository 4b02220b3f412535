package restore

import (
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/remote"
)

// planGroups finds groups that nobody makes by the way: of those whose leader is not in the tree
// the first member makes them, unless the helper that makes a session has done so. Such as their
// leader has left it makes itself.
func (tr *tree) planGroups() error {
	lenders, err := tr.findLenders()
	if err != nil {
		return err
	}
	if tr.lenders, err = lastOut(tr.tasks, lenders); err != nil {
		return err
	}
	made := map[uint32]bool{foreign: true}
	for _, t := range tr.tasks {
		if !t.birth.lends {
			tr.planGroup(t, made)
		}
	}
	for _, t := range tr.lenders {
		tr.planGroup(t, made)
	}
	return nil
}

// planGroup has a task make its group, if nobody does. The group of a session whose leader has
// ended is made by the helper that makes the session.
func (tr *tree) planGroup(t *task, made map[uint32]bool) {
	if tr.byPID[t.pgid] == nil && !made[t.pgid] && t.pgid != t.sid {
		t.birth.groupHelper, made[t.pgid] = true, true
	}
}

// findLenders finds the tasks that are in another group than the one with their number, in
// which others are.
func (tr *tree) findLenders() (lenders []*task, err error) {
	for _, t := range tr.tasks {
		l := tr.byPID[t.pgid]
		if l == nil || l.pgid == l.pid {
			continue
		}
		if l.sid != t.sid {
			return nil, fmt.Errorf("%v: its group is that of %v, in another session: that can't be", t, l)
		}
		if !l.birth.lends {
			l.birth.lends = true
			lenders = append(lenders, l)
		}
	}
	return lenders, nil
}

// lastOut puts lenders into an order in which each can leave its group: when somebody is in it.
func lastOut(tasks, lenders []*task) (order []*task, err error) {
	in := map[uint32]bool{}
	for _, t := range tasks {
		if !t.birth.lends {
			in[t.pgid] = true
		}
	}
	for len(lenders) > 0 {
		var left []*task
		for _, l := range lenders {
			if !in[l.pid] {
				left = append(left, l)
				continue
			}
			order, in[l.pgid] = append(order, l), true
		}
		if len(left) == len(lenders) {
			return nil, fmt.Errorf("%v: it is in the group of another task, which is in its: Glis can't put them there yet", left[0])
		}
		lenders = left
	}
	return order, nil
}

// makeGroups makes the groups whose leaders have ended or have left them, and puts zombies into
// theirs, and who is in one that is left then; all others join when they are finished. A zombie
// may be in the group of one that comes behind it.
func (r *restore) makeGroups() error {
	all := r.tree.tasks
	for _, step := range []struct {
		tasks []*task
		do    func(*task) error
	}{{all, r.leadGroup}, {all, r.groupByHelper}, {all, r.enterLent}, {r.tree.lenders, r.leaveGroup}, {all, r.enterDead}} {
		for _, t := range step.tasks {
			if err := step.do(t); err != nil {
				return fmt.Errorf("%v: %w", t, err)
			}
		}
	}
	return r.endHelpers()
}

// leadGroup has a zombie make the session or group that it leads, and a task the group that
// it is going to leave.
func (r *restore) leadGroup(t *task) error {
	b := t.live.arena.Batch(t.live.thread)
	switch {
	case t.birth.lends:
		b.Call("setpgid", unix.SYS_SETPGID, 0, 0)
	case t.zombie && t.pgid == t.pid && len(t.birth.clones) == 0 && !t.birth.leads:
		enterSession(b, t)
	default:
		return nil
	}
	if err := b.Run(); err != nil {
		return err
	}
	t.live.arena.Reset()
	return nil
}

// enterLent has a task join a group that its leader is going to leave, as is the helper that
// made its session.
func (r *restore) enterLent(t *task) error {
	l := r.tree.byPID[t.pgid]
	if t.birth.lends || l == nil && t.pgid != t.sid || l != nil && !l.birth.lends {
		return nil
	}
	return r.enterGroup(t)
}

// leaveGroup has a task leave the group with its number, in which others are by now.
func (r *restore) leaveGroup(t *task) error {
	if t.birth.groupHelper {
		return r.makeGroup(t)
	}
	return r.enterGroup(t)
}

// enterDead has a zombie join its group.
func (r *restore) enterDead(t *task) error {
	if !t.zombie {
		return nil
	}
	return r.enterGroup(t)
}

// enterGroup has a task join its group, unless it is in it.
func (r *restore) enterGroup(t *task) error {
	b := t.live.arena.Batch(t.live.thread)
	joinGroup(b, t)
	if b.Len() == 0 {
		return nil
	}
	if err := b.Run(); err != nil {
		return err
	}
	t.live.arena.Reset()
	return nil
}

// joinGroup queues what puts a task into its process group, which exists by
// now.
func joinGroup(b *remote.Batch, t *task) {
	switch {
	case t.pgid == foreign && t.birth.lends:
		b.Call("setpgid", unix.SYS_SETPGID, 0, uint64(unix.Getpgrp()))
	case t.pgid != t.pid && t.pgid != foreign && !t.birth.groupHelper:
		b.Call("setpgid", unix.SYS_SETPGID, 0, uint64(t.pgid))
	}
}

// groupByHelper makes a group whose leader has ended, unless its member has a group to leave.
func (r *restore) groupByHelper(t *task) error {
	if !t.birth.groupHelper || t.birth.lends {
		return nil
	}
	return r.makeGroup(t)
}

// makeGroup makes the group of a task whose leader has ended: a child with the
// leader's number makes it, the task joins, the child ends. It has no exit
// signal, so the task never hears of it.
func (r *restore) makeGroup(t *task) error {
	h := &task{pid: t.pgid}
	if err := r.cloneAll(t.live, []birthOrder{{h, t.pgid, 0, 0}}); err != nil {
		return fmt.Errorf("leader of its group: %w", err)
	}
	b := h.live.arena.Batch(h.live.thread)
	b.Call("setpgid", unix.SYS_SETPGID, 0, 0)
	if err := b.Run(); err != nil {
		return err
	}
	b = t.live.arena.Batch(t.live.thread)
	b.Call("setpgid", unix.SYS_SETPGID, 0, uint64(t.pgid))
	if err := b.Run(); err != nil {
		return err
	}
	if err := kill(h.live); err != nil {
		return err
	}
	return r.reapHelper(t.live, t.pgid)
}
