package restore

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"

	criu_core "glis.dev/glis/image/criu/criu-core"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kind/mem"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/remote"
)

// layout gives a task that was just cloned its own address space: what it has
// from its parent and does not share is unmapped, the rest is mapped and
// filled, as soon as before has come to that.
func (r *restore) layout(ctx context.Context, t *task, before *relay) error {
	t.space.Unfold()
	b := t.live.arena.Batch(t.live.thread)
	if len(t.birth.early)+len(t.birth.clones)+len(t.birth.juniors) == 0 {
		enterSession(b, t)
	}
	if err := r.begin(b, t); err != nil {
		return err
	}
	parent := t.forkOf()
	t.space.Clear(b, parent, mem.Range{Start: t.live.arena.Base(), Size: t.live.arena.Size()})
	uses := t.space.Files()
	numbers, err := r.lend(ctx, b, t, uses)
	if err != nil {
		return err
	}
	if err := t.space.Map(b, func(u mem.Use) uint64 { return uint64(numbers[u]) }, parent); err != nil {
		return err
	}
	r.takeBack(b, t, numbers)
	return before.next(t, b, func() error {
		err := r.fill(ctx, t)
		if r.tree.shelf != nil && t.childless() {
			t.space.Made()
		}
		return err
	})
}

// fill gives a task's memory its contents.
func (r *restore) fill(ctx context.Context, t *task) error {
	t.live.arena.Reset()
	stats, err := t.space.Fill(ctx, t.live.thread.Tgid, r.store)
	r.pages.Add(stats)
	if err != nil || !t.space.HasRings() {
		return err
	}
	return r.makeRings(t)
}

// begin queues what a task gives to its children and threads.
func (r *restore) begin(b *remote.Batch, t *task) error {
	var parent *criu_core.CoreEntry
	if t.parent != nil {
		th, err := r.parentOf(t)
		if err != nil {
			return err
		}
		parent = th.core
	}
	redo, err := r.redo(b, &t.images[0])
	if err != nil {
		return err
	}
	free := t.live.table.alloc()
	defer t.live.table.free(free)
	for _, f := range r.kinds.Process {
		n, ok := f.(kind.Newborn)
		if !ok {
			continue
		}
		if err := n.Begin(redo, parent, free); err != nil {
			return fmt.Errorf("%s: %w", f.Name(), err)
		}
	}
	return nil
}

// parentOf returns the leader of a task's parent, or of who else cloned it, of which the children come one after the
// other.
func (r *restore) parentOf(t *task) (*thread, error) {
	from := t.parent
	if t.birth.afar != nil {
		from = t.birth.afar
	}
	if t.birth.elder != nil {
		from = t.birth.elder
	}
	for from.zombie {
		from = from.parent
	}
	if r.parent == nil || r.parent.task != from {
		var err error
		if r.parent, err = from.images[0].whole(); err != nil {
			return nil, err
		}
	}
	return r.parent, nil
}

// makeRings makes a task's rings of asynchronous I/O.
func (r *restore) makeRings(t *task) error {
	null := t.live.table.alloc()
	defer t.live.table.free(null)
	return t.space.MakeRings(t.live.thread.Tgid, null, func() *remote.Batch {
		t.live.arena.Reset()
		return t.live.arena.Batch(t.live.thread)
	})
}

// checkShared makes sure that System V shared memory can come back, and that the
// machine has enough huge pages.
func (r *restore) checkShared(env *plan.CheckEnv) error {
	var err error
	if r.segments, err = mem.PlanSegments(Images(r.store), r.tree.root.ids.GetIpcNsId(), r.tree.spaces()); err != nil {
		return err
	}
	if err := r.segments.Check(&env.Huge); err != nil {
		return err
	}
	if err := mem.CheckRings(r.tree.spaces()); err != nil {
		return err
	}
	return env.Huge.Check()
}

// makeSegments makes the System V shared memory that tasks will attach.
func (r *restore) makeSegments(ctx context.Context) error {
	return r.segments.Make(ctx, r.store, mem.Keeper{Known: r.guard.Segment, Undo: r.undo.Push})
}

// lend sends descriptors that a task needs for a moment and returns the
// numbers they will have in it.
func (r *restore) lend(ctx context.Context, b *remote.Batch, t *task, uses []mem.Use) (map[mem.Use]int32, error) {
	numbers := map[mem.Use]int32{}
	var fds []int
	for _, u := range uses {
		f, err := r.files.get(ctx, u.ID)
		if err != nil {
			return nil, err
		}
		f, mine, err := withAccess(f, u.Access)
		if err != nil {
			return nil, fmt.Errorf("file %#x: %w", u.ID, err)
		}
		if mine {
			defer f.Close()
		}
		fds = append(fds, f.Int())
		numbers[u] = t.live.table.alloc()
	}
	return numbers, r.transport.send(b, fds, unix.MSG_CMSG_CLOEXEC)
}

// withAccess returns a descriptor that may be mapped for this access: images
// name the file, but not always opened as the mapping needs it. mine tells
// whether it is a new one.
func withAccess(f *fd.FD, access uint32) (_ *fd.FD, mine bool, err error) {
	if access&unix.O_ACCMODE != unix.O_RDWR {
		return f, false, nil
	}
	flags, err := unix.FcntlInt(uintptr(f.Int()), unix.F_GETFL, 0)
	if err != nil || flags&unix.O_ACCMODE == unix.O_RDWR {
		return f, false, err
	}
	n, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", f.Int()), unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, false, fmt.Errorf("open for writing: %w", err)
	}
	return fd.New(n), true, nil
}

// takeBack closes what lend gave.
func (r *restore) takeBack(b *remote.Batch, t *task, numbers map[mem.Use]int32) {
	for _, n := range numbers {
		b.Call("close", unix.SYS_CLOSE, uint64(n))
		t.live.table.free(n)
	}
}
