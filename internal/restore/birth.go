package restore

import (
	"errors"
	"fmt"
	"slices"

	"glis.dev/glis/options"
)

// birth is how a task comes into the world: a session and a group are mostly
// inherited, so who is cloned when decides where a task ends up.
type birth struct {
	want    uint32 // session that it must be cloned into, unless any
	any     bool
	session uint32  // that it is cloned into
	early   []*task // children to clone before it makes its own session
	late    []*task
	// lifted is set on a leader that must be cloned into want, a session whose leader has
	// ended, since a child of its is in it and so is a task elsewhere.
	lifted bool
	// helper is a process that makes the session this task is in, and clones
	// it there as its sibling, because the session's leader has ended.
	helper bool
	// by is the leader of the session that this task is in, and its sibling, who clones it
	// before anything else: clones is what that one clones so.
	by     *task
	clones []*task
	// elder is a sibling who clones it, since it shares more memory with that than with its
	// parent: juniors is whom that one clones so.
	elder   *task
	juniors []*task
	// afar is one of the session that this task is in, further below its parent, who clones it
	// when all others are there, with memory that is not its parent's. leads is set on one that
	// has ended, and makes its session at once for that.
	afar  *task
	leads bool
	// groupHelper is set on the task that makes, with a process that then
	// ends, the group it joins: the group's leader has ended.
	groupHelper bool
	// lends is set on a task that is in another group than the one with its number, which it
	// made and left while others were in it: it makes that again, and leaves it when they are.
	lends bool
}

// foreign stands for the session or group that the engine itself is in: the
// one that a tree with --shell-job comes back into.
const foreign = 0

// planBirths decides sessions, groups and the order of cloning.
func (tr *tree) planBirths(o *options.Restore) error {
	if err := tr.adopt(o); err != nil {
		return err
	}
	if err := tr.settleWants(); err != nil {
		return err
	}
	tr.root.birth.session = foreign
	helpers := map[uint32]*task{}
	for _, t := range tr.tasks {
		if err := tr.planChildren(t, helpers); err != nil {
			return err
		}
	}
	if err := tr.planAfar(); err != nil {
		return err
	}
	return tr.planGroups()
}

// adopt puts the parts of the tree that belong to a session or group of the
// outside world into the engine's own (--shell-job).
func (tr *tree) adopt(o *options.Restore) error {
	if err := tr.checkNumbers(o); err != nil {
		return err
	}
	sid, pgid := tr.root.sid, tr.root.pgid
	outside := tr.byPID[sid] == nil
	if !outside && tr.byPID[pgid] != nil {
		return nil
	}
	if outside && !o.ShellJob {
		return fmt.Errorf("%v: its session %d has its leader outside of the tree; with --shell-job it comes back into this terminal's session", tr.root, sid)
	}
	for _, t := range tr.tasks {
		if outside && t.sid == sid {
			t.sid = foreign
		}
		if tr.byPID[pgid] == nil && t.pgid == pgid {
			t.pgid = foreign
		}
	}
	return nil
}

// checkNumbers refuses sessions and groups that no kernel makes.
func (tr *tree) checkNumbers(o *options.Restore) error {
	if tr.root.sid != tr.root.pid && tr.byPID[tr.root.sid] != nil {
		return fmt.Errorf("%v: its session %d is one that a task below it leads, or a thread: that can't be", tr.root, tr.root.sid)
	}
	for _, t := range tr.tasks {
		switch {
		case t.sid == t.pid && t.pgid != t.pid:
			return fmt.Errorf("%v: it leads its session, but is in group %d: that can't be", t, t.pgid)
		case t != tr.root && (t.sid == foreign && tr.root.sid != foreign || t.pgid == foreign && !o.ShellJob):
			return fmt.Errorf("%v: its session %d or group %d has its leader outside of its PID namespace: Glis can't put it there", t, t.sid, t.pgid)
		}
	}
	return nil
}

// planChildren sorts a task's children by whether they are cloned before or
// after it makes its own session. helpers tells which task has the helper of a
// session whose leader has ended: its number is in use for good then.
func (tr *tree) planChildren(t *task, helpers map[uint32]*task) error {
	leader := t.sid == t.pid
	if t.zombie && len(t.children) > 0 {
		return fmt.Errorf("%v: it has ended, and can't be the parent of %v", t, t.children[0])
	}
	for _, c := range t.children {
		want := c.birth.want
		c.birth.session = want
		switch {
		case c.birth.any:
			c.birth.session = t.sid
			t.birth.late = append(t.birth.late, c)
		case want == t.sid:
			t.birth.late = append(t.birth.late, c)
		case leader && want == t.birth.session:
			t.birth.early = append(t.birth.early, c)
		case tr.besides(t, want):
			c.birth.by = tr.byPID[want]
			c.birth.by.birth.clones = append(c.birth.by.birth.clones, c)
			t.birth.late = append(t.birth.late, c)
		case tr.byPID[want] == nil && want != foreign:
			o := helpers[want]
			if o != nil && o != t && t.above(o) {
				tr.afar = append(tr.afar, c)
				continue
			}
			if o != nil && o != t && !tr.deeper(o, t, want) {
				return fmt.Errorf("%v: the leader of its session %d has ended, and %v has a child in it, too: Glis can't put both there yet", c, want, o)
			}
			c.birth.helper, helpers[want] = true, t
			t.birth.late = append(t.birth.late, c)
		default:
			tr.afar = append(tr.afar, c)
		}
	}
	return nil
}

// besides tells whether a session has a leader that is a child of the task t: it can clone others
// of those into it, unless it has children from before it made that.
func (tr *tree) besides(t *task, session uint32) bool {
	l := tr.byPID[session]
	return l != nil && l.parent == t && l.sid == l.pid && l.birth.any
}

// mostLifted bounds how often settleWants begins anew.
const mostLifted = 1000

// settleWants decides which session each task must be cloned into. Only one process can
// make a session whose leader has ended; so where members have different parents, those
// that lead sessions of their own are cloned into it, too, before they make those, up to
// where one task is the parent of all.
func (tr *tree) settleWants() error {
	for range mostLifted {
		for _, t := range slices.Backward(tr.tasks) {
			if err := tr.settleWant(t); err != nil {
				return err
			}
		}
		if t, into := tr.apart(); t != nil {
			t.birth.lifted, t.birth.want = true, into
			continue
		}
		return nil
	}
	return fmt.Errorf("%v: below it are members of sessions whose leaders have ended in more than %d places: Glis can't put them there yet", tr.root, mostLifted)
}

// apart returns the deeper one of two parents of members of a session whose leader has
// ended, and the session, if that parent can be cloned into it.
func (tr *tree) apart() (t *task, into uint32) {
	places := map[uint32]*task{}
	for _, t := range tr.tasks {
		for _, c := range t.children {
			want := c.birth.want
			if c.birth.any || want == t.sid || want == foreign || tr.besides(t, want) || tr.byPID[want] != nil || t.birth.lifted && want == t.birth.want {
				continue
			}
			o := places[want]
			if o == nil {
				places[want] = t
			}
			if o == nil || o == t {
				continue
			}
			deeper := t
			if o.depth() > t.depth() {
				deeper = o
			}
			if deeper.birth.any && deeper.parent != nil {
				return deeper, want
			}
		}
	}
	return nil, 0
}

// depth is how many tasks are above.
func (t *task) depth() (n int) {
	for ; t.parent != nil; t = t.parent {
		n++
	}
	return n
}

// settleWant decides which session a task must be cloned into, its children
// having been settled before: any is set for one that makes its own session
// and whose children don't care.
func (tr *tree) settleWant(t *task) error {
	b := &t.birth
	if t.sid != t.pid {
		b.want = t.sid
		return nil
	}
	b.any = !b.lifted
	for _, c := range t.children {
		want := c.birth.want
		switch {
		case c.birth.any || want == t.pid:
		case tr.below(t, want):
			// That session's leader clones it, or one further below does.
		case tr.byPID[want] == nil && want != foreign:
			// A helper of its own makes that session.
		case !b.any && want != b.want:
			return fmt.Errorf("%v: its children are in more sessions (%d, %d) than it can have been in", t, b.want, want)
		default:
			b.want, b.any = want, false
		}
	}
	return nil
}

// checkSharing refuses what clone3(2) from a parent can't make: tables shared
// by tasks that are not parent and child.
func (tr *tree) checkSharing() error {
	first := map[uint32]*task{}
	for _, t := range tr.tasks {
		if t.zombie {
			continue
		}
		o := first[t.ids.GetVmId()]
		if o != nil {
			return fmt.Errorf("%v: shares its memory with %v: not supported yet", t, o)
		}
		first[t.ids.GetVmId()] = t
	}
	return errors.Join(
		tr.checkShared("descriptors", func(t *task) uint32 { return t.ids.GetFilesId() }),
		tr.checkShared("working directory", func(t *task) uint32 { return t.ids.GetFsId() }))
}

func (tr *tree) checkShared(what string, id func(*task) uint32) error {
	first := map[uint32]*task{}
	for _, t := range tr.tasks {
		if t.zombie {
			continue
		}
		o, p := first[id(t)], t.parent
		if o == nil {
			first[id(t)] = t
			continue
		}
		if p == nil || p.zombie || id(p) != id(t) {
			return fmt.Errorf("%v: shares its %s with %v, which is not its parent: not supported yet", t, what, o)
		}
	}
	return nil
}

// sharesWithParent tells whether a table is the parent's.
func (t *task) sharesFiles() bool {
	return t.parent != nil && !t.parent.zombie && t.ids.GetFilesId() == t.parent.ids.GetFilesId()
}

func (t *task) sharesFS() bool {
	return t.parent != nil && !t.parent.zombie && t.ids.GetFsId() == t.parent.ids.GetFsId()
}
