package restore

import (
	"context"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/linux"
)

// Who else clones tasks than their parents.

// helper is a process that stands in for one that has ended.
type helper struct {
	live   *live
	parent *task
}

// cloneByHelper has the helper that leads a child's session clone it, if that
// is how it comes.
func (r *restore) cloneByHelper(t, c *task, helpers map[uint32]*live) error {
	if !c.birth.helper {
		return nil
	}
	sid := c.birth.session
	if helpers[sid] == nil {
		h, err := r.sessionHelper(t, sid)
		if err != nil {
			return fmt.Errorf("leader of session %d, which %v is cloned into: %w", sid, c, err)
		}
		helpers[sid] = h
		r.helpers = append(r.helpers, helper{h, t})
	}
	return r.clone(helpers[sid], c, linux.CLONE_PARENT|shared(c))
}

// sessionHelper stands in for the leader of a session that has ended: a
// process with its number makes the session, clones those of its members that are
// children of t, or leave it later, as its own siblings, and ends.
func (r *restore) sessionHelper(t *task, sid uint32) (*live, error) {
	h := &task{pid: sid}
	members := slices.DeleteFunc(slices.Clone(t.children), func(c *task) bool { return !c.birth.helper || c.birth.session != sid })
	if err := r.cloneAll(t.live, []birthOrder{{h, sid, shared(members...), uint64(unix.SIGCHLD)}}); err != nil {
		return nil, err
	}
	b := h.live.arena.Batch(h.live.thread)
	b.Call("setsid", unix.SYS_SETSID)
	return h.live, b.Run()
}

// endHelpers ends the helpers that have made sessions: their groups have been joined by now.
func (r *restore) endHelpers() error {
	for _, h := range r.helpers {
		if err := kill(h.live); err != nil {
			return err
		}
		if err := r.reapHelper(h.parent.live, uint32(h.live.thread.Tgid)); err != nil {
			return err
		}
	}
	r.helpers = nil
	return nil
}

// reapHelper has a task reap a helper that was its child.
func (r *restore) reapHelper(by *live, pid uint32) error {
	b := by.arena.Batch(by.thread)
	b.Call("wait4", unix.SYS_WAIT4, uint64(pid), 0, linux.WALL, 0)
	err := b.Run()
	by.arena.Reset()
	return err
}

// cloneBesides has the leader of a session clone its siblings into it, as long as its memory is
// what it has from their parent. What they share with that, and it does not, it has until then, too.
func (r *restore) cloneBesides(ctx context.Context, t *task) error {
	if len(t.birth.clones) == 0 && !t.birth.leads {
		return nil
	}
	b := t.live.arena.Batch(t.live.thread)
	enterSession(b, t)
	if err := b.Run(); err != nil {
		return err
	}
	t.live.arena.Reset()
	if err := r.takeTerminal(ctx, t); err != nil {
		return err
	}
	for _, c := range t.birth.clones {
		if err := r.clone(t.live, c, linux.CLONE_PARENT|shared(c)); err != nil {
			return err
		}
	}
	apart := shared(t.birth.clones...) &^ shared(t)
	if apart == 0 {
		return nil
	}
	b = t.live.arena.Batch(t.live.thread)
	b.Call("unshare", unix.SYS_UNSHARE, apart)
	if apart&linux.CLONE_FILES != 0 {
		t.live.table = t.live.table.copy()
	}
	err := b.Run()
	t.live.arena.Reset()
	return err
}
