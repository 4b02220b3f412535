package restore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind/mem"
	"glis.dev/glis/internal/linux"
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
	stuff []plan.Node // those that other files, or they themselves, are the contents of
	all   plan.ByID[file]
	room  int   // how many descriptors the engine may have
	crew  *crew // makes files ahead of their use; nil: nobody does
	// lock takes the locks that a new file has itself; nil: there are none.
	lock func(plan.ID, *fd.FD) error
}

// file is what has become of a file.
type file struct {
	open *fd.FD // nil: it is not made yet, or closed
	left int    // uses to come
	// One that has options to be set at the release: its inode, and the
	// descriptor that is kept for that.
	inode  uint64
	kept   *fd.FD
	placed bool        // the task that uses it makes it
	queued bool        // a crew makes it, or has made it
	end    *descriptor // while couples looks for pairs: it may be one, as this descriptor
}

func newFiles(p *plan.Plan, env *plan.Env) (*files, error) {
	f := &files{plan: p, env: env}
	env.File = func(id plan.ID) (*fd.FD, error) {
		if d := f.opened(id); d != nil {
			return d, nil
		}
		return nil, fmt.Errorf("file %#x: not created yet", id)
	}
	var err error
	if f.nodes, err = p.Nodes(); err != nil {
		return nil, err
	}
	f.all.Expect(len(f.nodes))
	for _, n := range f.nodes {
		if s, ok := n.(plan.Stuffed); ok && s.Held() != nil {
			f.stuff = append(f.stuff, n)
		}
		at := f.all.At(n.ID())
		at.left += len(p.Users(n.ID()))
		if resumes(n) && at.left == 0 {
			at.left++ // it is in a queue only, and kept until the release
		}
		if f.isLone(n) {
			at.left++ // and kept until a task has finished it
		}
		for _, need := range n.Needs() {
			f.all.At(need).left++
		}
	}
	for _, id := range f.stuffed() {
		f.all.At(id).left++
	}
	return f, nil
}

// opened returns the engine's descriptor of a file, nil if it has none. Nodes that
// are created beside each other ask, too.
func (f *files) opened(id plan.ID) *fd.FD {
	if at := f.all.Find(id); at != nil {
		return at.open
	}
	return nil
}

// get returns the engine's descriptor of a file, which it makes first if
// need be, along with those it needs.
func (f *files) get(ctx context.Context, id plan.ID) (*fd.FD, error) {
	if d := f.opened(id); d != nil {
		return d, nil
	}
	if err := f.settleAll(ctx); err != nil {
		return nil, err
	}
	if d := f.opened(id); d != nil {
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
		return nil, failure(n, err)
	}
	return d, nil
}

// create makes a file. It returns its inode, too, if options are set of it at the
// release.
func (f *files) create(ctx context.Context, n plan.Node) (*fd.FD, uint64, error) {
	d, err := n.Create(ctx, f.env)
	return f.created(n, d, err)
}

// created returns what create does of a file that was made.
func (f *files) created(n plan.Node, d *fd.FD, err error) (*fd.FD, uint64, error) {
	if err != nil || !resumes(n) {
		return d, 0, err
	}
	var st unix.Stat_t
	if err := linux.QuickFstat(d.Int(), &st); err != nil {
		return nil, 0, errors.Join(fmt.Errorf("fstat: %w", err), d.Close())
	}
	return d, st.Ino, nil
}

// resumes tells whether a file has options that are set at the release.
func resumes(n plan.Node) bool {
	r, ok := n.(plan.Resumer)
	return ok && r.Resumes()
}

// made takes over a file that was created, and fills it.
func (f *files) made(ctx context.Context, n plan.Node, d *fd.FD, ino uint64) error {
	at := f.all.At(n.ID())
	at.open, at.inode = d, ino
	if filler, ok := n.(plan.Filler); ok {
		if err := filler.Fill(ctx, f.env, d); err != nil {
			return err
		}
	}
	for _, need := range n.Needs() {
		f.release(need)
	}
	if f.lock != nil {
		return f.lock(n.ID(), d)
	}
	return nil
}

// release counts one use as done.
func (f *files) release(id plan.ID) {
	if d := f.used(id); d != nil {
		d.Close()
	}
}

// releaseAll counts one use of each as done. Descriptors that were made one
// after the other are closed by one call.
func (f *files) releaseAll(uses []descriptor) {
	var done []*fd.FD
	for _, e := range uses {
		if d := f.used(e.id); d != nil {
			done = append(done, d)
		}
	}
	fd.CloseAll(done)
}

// used counts one use as done, and returns what is to be closed then: nothing
// that needs options at the release, if the engine may have so many.
func (f *files) used(id plan.ID) *fd.FD {
	at := f.all.At(id)
	if at.left--; at.left != 0 {
		return nil
	}
	d := at.open
	at.open = nil
	if at.inode != 0 && f.plenty() {
		at.kept = d
		return nil
	}
	return d
}

// letGo closes what was kept, whether or not it got options: a task that closes
// a file when it runs is to be the last who has it, or an epoll file would go on
// to report it.
func (f *files) letGo() {
	var kept []*fd.FD
	for _, n := range f.nodes {
		if at := f.all.At(n.ID()); at.kept != nil {
			kept = append(kept, at.kept)
			at.kept = nil
		}
	}
	fd.CloseAll(kept)
}

// spareFiles is how many descriptors the engine needs besides those of files.
const spareFiles = 1000

// begin has files begun with, as long as it is not to stop, if the engine may have all of
// them at a time.
func (f *files) begin(stop func() bool) {
	if !f.plenty() {
		return
	}
	for _, n := range f.nodes {
		if stop() {
			return
		}
		if b, ok := n.(plan.Begun); ok {
			b.Begin()
		}
	}
}

// count counts the nodes that are a T, too.
func count[T any](nodes []plan.Node) (n int) {
	for _, node := range nodes {
		if _, ok := node.(T); ok {
			n++
		}
	}
	return n
}

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
	f.dismiss()
	f.letGo()
	for _, n := range f.nodes {
		if at := f.all.At(n.ID()); at.open != nil {
			at.open.Close()
			at.open = nil
		}
		if h, ok := n.(plan.Dropper); ok {
			h.Drop()
		}
	}
	f.env.Rings.Close()
}

// ordered returns a task's own descriptors in ascending order; none if its
// parent's are its own.
func (t *task) ordered() []descriptor {
	if t.sharesFiles() {
		return nil
	}
	own := slices.Clone(t.fds)
	slices.SortFunc(own, func(a, b descriptor) int { return cmp.Compare(a.fd, b.fd) })
	return own
}

// descriptors gives a task descriptors: they arrive at the lowest numbers, in
// ascending order of where they belong, and are then moved there from the
// highest on, so that no move hits one that still has to move. Those that come first may
// have arrived already.
func (r *restore) descriptors(ctx context.Context, b *remote.Batch, t *task, own []descriptor, o *opens) error {
	at := make([]int32, len(own))
	for i := copy(at, o.at); i < len(own); i++ {
		at[i] = t.live.table.alloc()
	}
	more, err := r.sendOwn(ctx, b, own[len(o.at):])
	if err != nil {
		return err
	}
	odd := o.odd
	for _, i := range more {
		odd = append(odd, len(o.at)+i)
	}
	for i := len(own) - 1; i >= 0; i-- {
		e := own[i]
		move(b, t.live.table, at[i], e.fd, e.flags&unix.FD_CLOEXEC != 0)
		if n := len(odd); n > 0 && odd[n-1] == i {
			if odd = odd[:n-1]; at[i] == e.fd {
				b.Call("fcntl(F_SETFD)", unix.SYS_FCNTL, uint64(e.fd), unix.F_SETFD, uint64(e.flags&unix.FD_CLOEXEC))
			}
		}
	}
	return nil
}

// sendOwn sends a task's descriptors. Those of a message are close-on-exec when they
// arrive, or not; it returns which, in ascending order, are not as they are to be.
func (r *restore) sendOwn(ctx context.Context, b *remote.Batch, own []descriptor) (odd []int, err error) {
	defer r.files.dismiss()
	for at, made := 0, 0; at < len(own); {
		if made <= 0 {
			made = min(len(own)-at, r.files.atOnce())
			if err := r.files.ahead(ctx, own[at:at+made]); err != nil {
				return nil, err
			}
		}
		some := own[at:min(at+fd.MaxRights, len(own))]
		if err := r.files.settle(ctx, some[:min(made, len(some))]); err != nil {
			return nil, err
		}
		fds := make([]int, len(some))
		for i, e := range some {
			f, err := r.files.get(ctx, e.id)
			if err != nil {
				return nil, err
			}
			fds[i] = f.Int()
		}
		most := mostFlags(some)
		if err := r.transport.send(b, fds, most*unix.MSG_CMSG_CLOEXEC); err != nil {
			return nil, err
		}
		for i, e := range some {
			if uint64(e.flags&unix.FD_CLOEXEC) != most {
				odd = append(odd, at+i)
			}
		}
		r.files.releaseAll(some)
		at, made = at+len(some), made-len(some)
	}
	return odd, nil
}

// mostFlags returns FD_CLOEXEC, which is 1, if most descriptors have it; else 0.
func mostFlags(some []descriptor) uint64 {
	n := 0
	for _, e := range some {
		n += int(e.flags & unix.FD_CLOEXEC)
	}
	if 2*n > len(some) {
		return unix.FD_CLOEXEC
	}
	return 0
}

// finishMembers lets files that keep numbers of descriptors (epoll) be
// finished by the first task that has them.
func (r *restore) finishMembers(b *remote.Batch, t *task, own []descriptor) error {
	for _, e := range own {
		id := e.id
		m, ok := r.plan.Node(id).(plan.Member)
		if !ok || r.finished[id] {
			continue
		}
		r.finished[id] = true
		if err := m.Finish(batcher{b, t.live.table}, e.fd); err != nil {
			return fmt.Errorf("file %#x: %w", id, err)
		}
	}
	return nil
}

// isLone tells whether any task is to finish a file, since none has it.
func (f *files) isLone(n plan.Node) bool {
	_, ok := n.(plan.Common)
	return ok && len(f.plan.Users(n.ID())) == 0
}

// finishCommon has the first task finish what is in queues only.
func (r *restore) finishCommon(ctx context.Context, b *remote.Batch, t *task) error {
	if t != r.tree.root {
		return nil
	}
	var uses []mem.Use
	for _, n := range r.files.nodes {
		if r.files.isLone(n) {
			uses = append(uses, mem.Use{ID: n.ID()})
		}
	}
	for some := range slices.Chunk(uses, fd.MaxRights) {
		numbers, err := r.lend(ctx, b, t, some)
		if err != nil {
			return err
		}
		for u, at := range numbers {
			if err := r.plan.Node(u.ID).(plan.Common).Finish(batcher{b, t.live.table}, at); err != nil {
				return fmt.Errorf("file %#x: %w", u.ID, err)
			}
			r.files.release(u.ID)
		}
		r.takeBack(b, t, numbers)
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
