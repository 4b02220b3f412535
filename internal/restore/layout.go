package restore

import (
	"context"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind/mem"
	"glis.dev/glis/internal/remote"
)

// layout gives a task that was just cloned its own address space: what it has
// from its parent and does not share is unmapped, the rest is mapped and
// filled.
func (r *restore) layout(ctx context.Context, t *task) error {
	b := t.live.arena.Batch(t.live.thread)
	var parent *mem.Space
	if t.parent != nil {
		parent = t.parent.space
	}
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
	if err := b.Run(); err != nil {
		return err
	}
	t.live.arena.Reset()
	stats, err := t.space.Fill(ctx, t.live.thread.Tgid, r.store)
	r.pages.Add(stats)
	return err
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
		fds = append(fds, f.Int())
		numbers[u] = t.live.table.alloc()
	}
	return numbers, r.transport.send(b, fds, unix.MSG_CMSG_CLOEXEC)
}

// takeBack closes what lend gave.
func (r *restore) takeBack(b *remote.Batch, t *task, numbers map[mem.Use]int32) {
	for _, n := range numbers {
		b.Call("close", unix.SYS_CLOSE, uint64(n))
		t.live.table.free(n)
	}
}
