package restore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/par"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/remote"
)

// files makes the open files of the plan when they are first needed, and
// closes them after their last use, so that the engine never holds more
// descriptors than it must.
type files struct {
	plan  *plan.Plan
	nodes []plan.Node
	env   *plan.Env
	open  map[plan.ID]*fd.FD
	left  map[plan.ID]int // uses to come
	// inodes of those that have options to be set at the release, and the
	// descriptors that are kept for that.
	inodes map[plan.ID]uint64
	kept   map[plan.ID]*fd.FD
	room   int              // how many descriptors the engine may have
	placed map[plan.ID]bool // the task that uses it makes it
}

func newFiles(p *plan.Plan, env *plan.Env) (*files, error) {
	f := &files{plan: p, env: env, open: map[plan.ID]*fd.FD{}, inodes: map[plan.ID]uint64{}, kept: map[plan.ID]*fd.FD{}, placed: map[plan.ID]bool{}}
	env.File = func(id plan.ID) (*fd.FD, error) {
		if d := f.open[id]; d != nil {
			return d, nil
		}
		return nil, fmt.Errorf("file %#x: not created yet", id)
	}
	var err error
	if f.nodes, err = p.Nodes(); err != nil {
		return nil, err
	}
	f.left = make(map[plan.ID]int, len(f.nodes))
	for _, n := range f.nodes {
		f.left[n.ID()] += len(p.Users(n.ID()))
		if _, ok := n.(plan.Resumer); ok && f.left[n.ID()] == 0 {
			f.left[n.ID()]++ // it is in a queue only, and kept until the release
		}
		for _, need := range n.Needs() {
			f.left[need]++
		}
	}
	for _, id := range f.stuffed() {
		f.left[id]++
	}
	return f, nil
}

// get returns the engine's descriptor of a file, which it makes first if
// need be, along with those it needs.
func (f *files) get(ctx context.Context, id plan.ID) (*fd.FD, error) {
	if d := f.open[id]; d != nil {
		return d, nil
	}
	n := f.plan.Node(id)
	if n == nil {
		return nil, fmt.Errorf("files.img: file %#x is missing", id)
	}
	for _, need := range n.Needs() {
		if _, err := f.get(ctx, need); err != nil {
			return nil, err
		}
	}
	d, ino, err := f.create(ctx, n)
	if err == nil {
		err = f.made(ctx, n, d, ino)
	}
	if err != nil {
		return nil, fmt.Errorf("file %#x, %v: %w", id, n, err)
	}
	return d, nil
}

// create makes a file. It returns its inode, too, if options are set of it at the
// release.
func (f *files) create(ctx context.Context, n plan.Node) (*fd.FD, uint64, error) {
	d, err := n.Create(ctx, f.env)
	if _, ok := n.(plan.Resumer); !ok || err != nil {
		return d, 0, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(d.Int(), &st); err != nil {
		return nil, 0, errors.Join(fmt.Errorf("fstat: %w", err), d.Close())
	}
	return d, st.Ino, nil
}

// made takes over a file that was created, and fills it.
func (f *files) made(ctx context.Context, n plan.Node, d *fd.FD, ino uint64) error {
	id := n.ID()
	f.open[id] = d
	if ino != 0 {
		f.inodes[id] = ino
	}
	if filler, ok := n.(plan.Filler); ok {
		if err := filler.Fill(ctx, f.env, d); err != nil {
			return err
		}
	}
	for _, need := range n.Needs() {
		f.release(need)
	}
	return nil
}

// ahead makes files whose needs are there, on all CPUs, before get asks for them.
func (f *files) ahead(ctx context.Context, own []*fdinfo.FdinfoEntry) error {
	if len(own) < someAhead {
		return nil
	}
	var nodes []plan.Node
	seen := map[plan.ID]bool{}
	for _, e := range own {
		id := plan.ID(e.GetId())
		n := f.plan.Node(id)
		if f.open[id] != nil || seen[id] {
			continue
		}
		ok, err := f.mayNow(ctx, n)
		if err != nil {
			return err
		}
		if ok {
			nodes, seen[id] = append(nodes, n), true
		}
	}
	type result struct {
		d   *fd.FD
		ino uint64
		err error
	}
	made := make([]result, len(nodes))
	_ = par.Do(len(nodes), func(i int) error {
		m := &made[i]
		m.d, m.ino, m.err = f.create(ctx, nodes[i])
		return nil
	})
	var errs []error
	for i, n := range nodes {
		err := made[i].err
		if err == nil {
			err = f.made(ctx, n, made[i].d, made[i].ino)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("file %#x, %v: %w", n.ID(), n, err))
		}
	}
	return errors.Join(errs...)
}

// atOnce is how many files are made ahead of their use: those of a message, or, if
// the engine may have all, so many that nobody waits.
func (f *files) atOnce() int {
	if len(f.nodes)+spareFiles <= f.room {
		return 16 * fd.MaxRights
	}
	return fd.MaxRights
}

// mayNow tells whether a file can be made while others are. It makes what the file
// needs, as a listener that all connections from it do, unless that can be made
// while others are, too.
func (f *files) mayNow(ctx context.Context, n plan.Node) (bool, error) {
	if !independent(n) {
		return false, nil
	}
	for _, need := range n.Needs() {
		if f.open[need] == nil && independent(f.plan.Node(need)) {
			return false, nil
		}
		if _, err := f.get(ctx, need); err != nil {
			return false, err
		}
	}
	return true, nil
}

func independent(n plan.Node) bool {
	i, ok := n.(plan.Independent)
	return ok && i.Independent()
}

// someAhead is from how many files on it pays to wake another thread.
const someAhead = 32

// release counts one use as done.
func (f *files) release(id plan.ID) {
	if d := f.used(id); d != nil {
		d.Close()
	}
}

// releaseAll counts one use of each as done. Descriptors that were made one
// after the other are closed by one call.
func (f *files) releaseAll(uses []*fdinfo.FdinfoEntry) {
	var done []*fd.FD
	for _, e := range uses {
		if d := f.used(plan.ID(e.GetId())); d != nil {
			done = append(done, d)
		}
	}
	fd.CloseAll(done)
}

// used counts one use as done, and returns what is to be closed then: nothing
// that needs options at the release, if the engine may have so many.
func (f *files) used(id plan.ID) *fd.FD {
	if f.left[id]--; f.left[id] != 0 {
		return nil
	}
	d := f.open[id]
	delete(f.open, id)
	if _, ok := f.inodes[id]; ok && len(f.nodes)+spareFiles <= f.room {
		f.kept[id] = d
		return nil
	}
	return d
}

// letGo closes what was kept, whether or not it got options: a task that closes
// a file when it runs is to be the last who has it, or an epoll file would go on
// to report it.
func (f *files) letGo() {
	fd.CloseAll(slices.Collect(maps.Values(f.kept)))
	clear(f.kept)
}

// spareFiles is how many descriptors the engine needs besides those of files.
const spareFiles = 1000

// late lets files be completed that had to wait for all tasks.
func (f *files) late(ctx context.Context) error {
	for _, n := range f.nodes {
		if l, ok := n.(plan.Later); ok {
			if err := l.Late(ctx, f.env); err != nil {
				return fmt.Errorf("file %#x: %w", n.ID(), err)
			}
		}
	}
	return nil
}

// follow lets files tidy up when the tree runs.
func (f *files) follow() {
	for _, n := range f.nodes {
		if l, ok := n.(plan.Follower); ok {
			if err := l.Follow(); err != nil {
				f.env.Log.Warn("the tree runs, but something was left behind", "file", n.ID(), "error", err)
			}
		}
	}
}

func (f *files) close() {
	for _, d := range f.open {
		d.Close()
	}
	f.letGo()
	f.open = map[plan.ID]*fd.FD{}
	for _, n := range f.nodes {
		if h, ok := n.(plan.Dropper); ok {
			h.Drop()
		}
	}
}

// ordered returns a task's own descriptors in ascending order; none if its
// parent's are its own.
func (t *task) ordered() []*fdinfo.FdinfoEntry {
	if t.sharesFiles() {
		return nil
	}
	own := slices.Clone(t.fds)
	slices.SortFunc(own, func(a, b *fdinfo.FdinfoEntry) int { return cmp.Compare(a.GetFd(), b.GetFd()) })
	return own
}

// descriptors gives a task descriptors: they arrive at the lowest numbers, in
// ascending order of where they belong, and are then moved there from the
// highest on, so that no move hits one that still has to move.
func (r *restore) descriptors(ctx context.Context, b *remote.Batch, t *task, own []*fdinfo.FdinfoEntry) error {
	at := make([]int32, len(own))
	for i := range own {
		at[i] = t.live.table.alloc()
	}
	if err := r.sendOwn(ctx, b, own); err != nil {
		return err
	}
	for i := len(own) - 1; i >= 0; i-- {
		e := own[i]
		move(b, t.live.table, at[i], int32(e.GetFd()), e.GetFlags()&unix.FD_CLOEXEC != 0)
	}
	return nil
}

// sendOwn sends a task's descriptors in messages that are either all
// close-on-exec or not.
func (r *restore) sendOwn(ctx context.Context, b *remote.Batch, own []*fdinfo.FdinfoEntry) error {
	for made := 0; len(own) > 0; {
		if made <= 0 {
			made = min(len(own), r.files.atOnce())
			if err := r.files.ahead(ctx, own[:made]); err != nil {
				return err
			}
		}
		n, fds := 0, []int(nil)
		for n < len(own) && n < fd.MaxRights && own[n].GetFlags() == own[0].GetFlags() {
			f, err := r.files.get(ctx, plan.ID(own[n].GetId()))
			if err != nil {
				return err
			}
			fds = append(fds, f.Int())
			n++
		}
		flags := uint64(0)
		if own[0].GetFlags()&unix.FD_CLOEXEC != 0 {
			flags = unix.MSG_CMSG_CLOEXEC
		}
		if err := r.transport.send(b, fds, flags); err != nil {
			return err
		}
		r.files.releaseAll(own[:n])
		own, made = own[n:], made-n
	}
	return nil
}

// finishMembers lets files that keep numbers of descriptors (epoll) be
// finished by the first task that has them.
func (r *restore) finishMembers(b *remote.Batch, t *task, own []*fdinfo.FdinfoEntry) error {
	for _, e := range own {
		id := plan.ID(e.GetId())
		m, ok := r.plan.Node(id).(plan.Member)
		if !ok || r.finished[id] {
			continue
		}
		r.finished[id] = true
		if err := m.Finish(batcher{b, t.live.table}, int32(e.GetFd())); err != nil {
			return fmt.Errorf("file %#x: %w", id, err)
		}
	}
	return nil
}

// batcher is the view of a batch that nodes have.
type batcher struct {
	b     *remote.Batch
	table *fdTable
}

func (b batcher) Add(name string, nr uintptr, args ...uint64) { b.b.Call(name, nr, args...) }
func (b batcher) Put(data []byte) uint64                      { return uint64(b.b.Bytes(data)) }
func (b batcher) InUse(n int32) bool                          { return b.table.has(n) }
func (b batcher) Spare() int32 {
	n := b.table.alloc()
	b.table.free(n)
	return n
}
