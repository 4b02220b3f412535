package restore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/remote"
)

// makers are the processes that make what has to be made by somebody else than
// the engine: tasks of the tree, and helpers with the numbers of processes that
// have ended.
type makers struct {
	restore *restore
	tasks   map[uint32]*task
	helpers map[uint32]*live
	groups  map[*live][]uint32 // supplementary groups that it was given last
}

func newMakers(r *restore) *makers {
	m := &makers{restore: r, tasks: map[uint32]*task{}, helpers: map[uint32]*live{}, groups: map[*live][]uint32{}}
	for _, t := range r.tree.tasks {
		m.tasks[t.pid] = t
	}
	return m
}

// alive implements plan.Env's Alive.
func (m *makers) alive(_ context.Context, pid uint32) error {
	if m.tasks[pid] != nil || m.helpers[pid] != nil || unix.Kill(int(pid), 0) != unix.ESRCH {
		return nil
	}
	_, err := m.helper(pid)
	return err
}

// live returns the process that has a number, 0 being the root's.
func (m *makers) live(pid uint32) (*live, error) {
	if pid == 0 {
		return m.restore.tree.root.live, nil
	}
	if t := m.tasks[pid]; t != nil {
		if t.live == nil || t.live.gone {
			return nil, fmt.Errorf("%v has ended", t)
		}
		return t.live, nil
	}
	return m.helper(pid)
}

// helper clones a process with a number that nobody has.
func (m *makers) helper(pid uint32) (*live, error) {
	if h := m.helpers[pid]; h != nil {
		return h, nil
	}
	h := &task{pid: pid}
	if err := m.restore.cloneAll(m.restore.tree.root.live, []birthOrder{{h, pid, 0, 0}}); err != nil {
		return nil, fmt.Errorf("stand in for process %d, which has ended, but that a file of /proc or a socket (SO_PEERCRED, SCM_CREDENTIALS) refers to: %w", pid, err)
	}
	m.helpers[pid] = h.live
	return h.live, nil
}

// dismiss ends all helpers; the root, whose children they are, never hears of
// them.
func (m *makers) dismiss() error {
	for pid, h := range m.helpers {
		if err := kill(h); err != nil {
			return err
		}
		if err := m.restore.reapHelper(m.restore.tree.root.live, pid); err != nil {
			return err
		}
	}
	m.helpers = map[uint32]*live{}
	return nil
}

// as implements plan.As.
func (m *makers) as(_ context.Context, who plan.Identity, lend []int, queue func(plan.Making)) ([]*fd.FD, error) {
	l, err := m.live(who.PID)
	if err != nil {
		return nil, err
	}
	b := l.arena.Batch(l.thread)
	k := &making{batcher: batcher{b, l.table}}
	for range lend {
		k.lent = append(k.lent, l.table.alloc())
	}
	if err := m.restore.transport.send(b, lend, unix.MSG_CMSG_CLOEXEC); err != nil {
		return nil, err
	}
	back := m.become(b, l, who)
	queue(k)
	back()
	if len(k.made) == 0 { // nobody has to get anything before
		k.close(b, k.lent)
		k.lent = nil
	}
	if err := b.Run(); err != nil {
		return nil, fmt.Errorf("calls made by process %d as user %d: %w", l.thread.Tgid, who.UID, err)
	}
	made, err := k.take(l)
	if err != nil {
		return nil, err
	}
	l.arena.Reset()
	return made, nil
}

// holding implements plan.Env's Holding.
func (m *makers) holding(pid uint32, number int32, do func() error) error {
	if m.tasks[pid] == nil {
		return do() // its descriptors are not ours
	}
	l, err := m.live(pid)
	if err != nil {
		return err
	}
	if l.table.has(number) {
		return do()
	}
	call := func(name string, nr uintptr, args ...uint64) error {
		b := l.arena.Batch(l.thread)
		b.Call(name, nr, args...)
		err := b.Run()
		l.arena.Reset()
		return err
	}
	if err := call("dup3", unix.SYS_DUP3, uint64(m.restore.transport.number), uint64(number), unix.O_CLOEXEC); err != nil {
		return fmt.Errorf("have process %d have a descriptor %d for a moment: %w", pid, number, err)
	}
	return errors.Join(do(), call("close", unix.SYS_CLOSE, uint64(number)))
}

// become queues what gives a process an identity, and returns what queues the
// way back.
func (m *makers) become(b *remote.Batch, l *live, who plan.Identity) (back func()) {
	const keep = ^uint64(0)
	if who.Groups != nil && !slices.Equal(who.Groups, m.groups[l]) {
		var list []byte
		for _, g := range who.Groups {
			list = binary.NativeEndian.AppendUint32(list, g)
		}
		b.Call("setgroups", unix.SYS_SETGROUPS, uint64(len(who.Groups)), uint64(b.Bytes(list)))
		m.groups[l] = who.Groups
	}
	uid, gid := uint32(unix.Geteuid()), uint32(unix.Getegid())
	if who.GID != gid {
		b.Call("setresgid", unix.SYS_SETRESGID, keep, uint64(who.GID), keep)
	}
	if who.UID != uid {
		b.Call("setresuid", unix.SYS_SETRESUID, keep, uint64(who.UID), keep)
	}
	return func() {
		if who.UID != uid {
			b.Call("setresuid", unix.SYS_SETRESUID, keep, uint64(uid), keep)
		}
		if who.GID != gid {
			b.Call("setresgid", unix.SYS_SETRESGID, keep, uint64(gid), keep)
		}
	}
}

// making implements plan.Making.
type making struct {
	batcher
	lent, made []int32
}

func (k *making) Lent(i int) uint64 { return uint64(k.lent[i]) }

func (k *making) New() int32 {
	n := k.table.alloc()
	k.made = append(k.made, n)
	return n
}

func (k *making) Room(n int) uint64 {
	at, _ := k.b.Alloc(n)
	return uint64(at)
}

// take gets what was made into the engine, and closes it in the process along
// with what was lent.
func (k *making) take(l *live) (made []*fd.FD, err error) {
	defer func() {
		if err != nil {
			for _, d := range made {
				d.Close()
			}
		}
	}()
	if len(k.made) > 0 {
		pidfd, err := unix.PidfdOpen(int(l.thread.Tgid), 0)
		if err != nil {
			return nil, fmt.Errorf("pidfd_open %d: %w", l.thread.Tgid, err)
		}
		defer unix.Close(pidfd)
		for _, n := range k.made {
			d, err := fd.Borrow(pidfd, n)
			if err != nil {
				return made, tooMany(err)
			}
			made = append(made, d)
		}
	}
	if len(k.made)+len(k.lent) == 0 {
		return nil, nil
	}
	b := l.arena.Batch(l.thread)
	k.close(b, append(k.lent, k.made...))
	return made, b.Run()
}

// close queues the closing of descriptors in the process.
func (k *making) close(b *remote.Batch, all []int32) {
	for _, n := range all {
		b.Call("close", unix.SYS_CLOSE, uint64(n))
		k.table.free(n)
	}
}

// tooMany adds what to do to an error of a limit.
func tooMany(err error) error {
	if errors.Is(err, unix.EMFILE) {
		return fmt.Errorf("%w; raise Glis's hard limit of open files (ulimit -Hn)", err)
	}
	return err
}

// prepare lets nodes be prepared that are about to be created.
func (f *files) prepare(ctx context.Context, ids []plan.ID) error {
	var nodes []plan.Node
	for _, id := range ids {
		if n := f.plan.Node(id); n != nil && f.opened(id) == nil {
			nodes = append(append(nodes, n), f.preparedFor(n)...)
		}
	}
	for _, n := range nodes {
		p, ok := n.(plan.Prepared)
		if !ok {
			continue
		}
		if err := p.Prepare(ctx, f.env, nodes); err != nil {
			return failure(n, err)
		}
	}
	return nil
}

// preparedFor returns what a file needs that is prepared, if it isn't itself, as it would be
// created while a batch is being built.
func (f *files) preparedFor(n plan.Node) (out []plan.Node) {
	if _, ok := n.(plan.Prepared); ok {
		return nil
	}
	for _, id := range n.Needs() {
		need := f.plan.Node(id)
		if _, ok := need.(plan.Prepared); ok && f.opened(id) == nil {
			out = append(out, need)
		}
	}
	return out
}

// needsMakers tells whether other processes than the engine have a part in
// making any file, or other files have in filling it.
func (f *files) needsMakers() bool {
	return len(f.stuff) > 0 || slices.ContainsFunc(f.nodes, func(n plan.Node) bool {
		_, ok := n.(plan.Prepared)
		return ok
	})
}

// fillAll fills files that other files, or they themselves, are the contents of.
func (f *files) fillAll(ctx context.Context) error {
	ids := f.stuffed()
	if err := f.prepare(ctx, ids); err != nil {
		return err
	}
	for _, id := range ids {
		if _, err := f.get(ctx, id); err != nil {
			return err
		}
	}
	for _, n := range f.stuff {
		if err := n.(plan.Stuffed).Stuff(ctx, f.env); err != nil {
			return failure(n, err)
		}
	}
	for _, id := range ids {
		f.release(id)
	}
	return nil
}

// stuffed returns the files that fillAll needs, each as often as it is held.
func (f *files) stuffed() []plan.ID {
	var ids []plan.ID
	for _, n := range f.stuff {
		ids = append(append(ids, n.ID()), n.(plan.Stuffed).Held()...)
	}
	return ids
}

// giveDescriptors gives every task its descriptors before any of them gets
// anything else, as long as all can do everything.
func (r *restore) giveDescriptors(ctx context.Context) error {
	for _, t := range r.tree.tasks {
		if t.zombie {
			continue
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if err := r.giveTo(ctx, t); err != nil {
			return fmt.Errorf("%v: %w", t, err)
		}
	}
	if err := r.files.fillAll(ctx); err != nil {
		return err
	}
	if err := r.enterBrief(ctx); err != nil {
		return err
	}
	return r.makers.dismiss()
}

func (r *restore) giveTo(ctx context.Context, t *task) error {
	all := t.ordered()
	pairs, own := r.couples(t, all)
	r.log.Debug("pairs that the task makes by itself", "task", t.pid, "pairs", len(pairs), "other descriptors", len(own))
	var ids []plan.ID
	for _, e := range own {
		ids = append(ids, e.id)
	}
	if err := r.files.prepare(ctx, ids); err != nil {
		return err
	}
	b := t.live.arena.Batch(t.live.thread)
	if err := r.descriptors(ctx, b, t, own, &opens{}); err != nil {
		return err
	}
	if err := b.Run(); err != nil {
		return err
	}
	t.live.arena.Reset()
	if err := r.makeCouples(ctx, t, pairs); err != nil {
		return err
	}
	b = t.live.arena.Batch(t.live.thread)
	if err := r.finishMembers(b, t, all); err != nil || b.Len() == 0 {
		return err
	}
	if err := b.Run(); err != nil {
		return err
	}
	t.live.arena.Reset()
	return nil
}
