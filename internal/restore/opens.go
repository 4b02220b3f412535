package restore

import (
	"context"
	"errors"
	"runtime"
	"sync/atomic"

	"golang.org/x/sys/unix"

	facets "glis.dev/glis/internal/kind/task"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/par"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/remote"
)

// A task that has many files of one directory, which nobody else has, opens some of them
// itself, while the engine makes the others on the other CPUs: each has a table of
// descriptors of its own then, for which nobody waits, and what a task has opened is
// neither sent, received nor closed in the engine.

// opens are files that a task opens. The zero value is none.
type opens struct {
	r      *restore
	t      *task
	batch  *remote.Batch // nil: none
	nodes  []plan.Opened
	share  int         // how many it is to open, so that all CPUs have as much to do
	at     []int32     // where descriptors arrive: those that come first, and those of nodes
	odd    []int       // see sendOwn
	stats  remote.Addr // what fstat(2) says of each
	waited bool
}

const (
	// manyOpens is from how many files on a task opens some itself.
	manyOpens = 256
	// mostOpens is how many it opens at most: the engine has all calls in memory.
	mostOpens = 8192
	// openShare is how many files a task opens while each CPU of the engine makes 100.
	openShare = 100
)

// openOwn has a task begin to open what it can of its descriptors, in ascending order.
// Nobody else's batch may run, since those that come before are sent.
func (r *restore) openOwn(ctx context.Context, t *task, own []descriptor, before *relay) (*opens, error) {
	o := &opens{r: r, t: t}
	if len(own) < manyOpens || t.sharesFS() || t.entered {
		return o, nil
	}
	first := o.choose(own)
	if len(o.nodes) < manyOpens {
		return o, nil
	}
	if err := before.end(); err != nil {
		return o, err
	}
	b, err := o.build(ctx, own, first)
	if err != nil || b.Len() == 0 {
		return o, err
	}
	if len(o.nodes) == o.share {
		r.files.crew.leave()
	}
	bound := par.Elsewhere(int(t.live.thread.TID))
	if err := b.Start(); err != nil {
		return o, err
	}
	if o.batch = b; bound {
		return o, facets.FreeCPUs(t.live.thread.Tgid)
	}
	return o, nil
}

// choose finds which nodes the task opens, and how many descriptors come before.
func (o *opens) choose(own []descriptor) (first int) {
	o.share = len(own)
	if others := runtime.GOMAXPROCS(0) - 1; others > 0 {
		o.share = max(o.share*openShare/(openShare+others*100), manyOpens)
	}
	most := min(o.share, mostOpens)
	for i := 0; i < len(own) && len(o.nodes) < most; i++ {
		n := o.r.files.openable(own[i].id)
		switch {
		case n == nil && len(o.nodes) >= manyOpens:
			return first
		case n == nil:
			o.nodes = nil
			continue
		case len(o.nodes) == 0:
			o.nodes, first = make([]plan.Opened, 0, most), i
		}
		o.nodes = append(o.nodes, n)
	}
	return first
}

// openable returns the node of a file if the one task that has it may open it, which is
// all that ever happens to it.
func (f *files) openable(id plan.ID) plan.Opened {
	at := f.all.At(id)
	n, ok := f.plan.Node(id).(plan.Opened)
	if !ok || at.left != 1 || at.open != nil || len(f.plan.Users(id)) != 1 || !n.Ownable() {
		return nil
	}
	return n
}

// look has the first node look for its directory, beside what else there is to do. It
// returns what tells whether that has been done, and what waits for it.
func (o *opens) look() (done func() bool, wait func()) {
	var looked atomic.Bool
	end := make(chan struct{})
	read := o.nodes[0].Look()
	look := func() {
		read()
		looked.Store(true)
		close(end)
	}
	if runtime.GOMAXPROCS(0) == 1 {
		look()
	} else {
		var apart par.Seats
		apart.Sit()
		go func() {
			apart.Sit()
			look()
		}()
		apart.Spread()
	}
	return looked.Load, func() { <-end }
}

// build makes the batch. Meanwhile files are made that the task does not open.
func (o *opens) build(ctx context.Context, own []descriptor, first int) (*remote.Batch, error) {
	r, a := o.r, o.t.live.arena
	looked, wait := o.look()
	defer wait()
	o.stats = a.Reserve(uint64(len(o.nodes)) * linux.StatSize)
	b := a.Batch(o.t.live.thread)
	for range first {
		o.at = append(o.at, o.t.live.table.alloc())
	}
	var err error
	if o.odd, err = r.sendOwn(ctx, b, own[:first]); err != nil {
		return nil, err
	}
	others := own[first+len(o.nodes):]
	if others = others[:min(len(others), r.files.atOnce())]; r.files.streams(others) {
		if err := r.files.ahead(ctx, others); err != nil {
			return nil, err
		}
	}
	for c := r.files.crew; c != nil && !looked() && c.some(); {
	}
	wait()
	if err := o.queue(b, own[first:first+len(o.nodes)]); err != nil {
		return nil, err
	}
	return b, b.Seal()
}

// queue queues the calls, for as many as are in one directory. The task enters that: it
// gets its own in the end.
func (o *opens) queue(b *remote.Batch, own []descriptor) error {
	table := o.t.live.table
	b.Expect(3 * len(o.nodes))
	var in plan.Opening
	for i, n := range o.nodes {
		how, ok := n.Opening()
		if !ok || i > 0 && how.Dir != in.Dir {
			o.nodes = o.nodes[:i]
			break
		}
		if in = how; i == 0 {
			dir := table.alloc()
			if err := o.r.transport.send(b, []int{how.Dir.Int()}, unix.MSG_CMSG_CLOEXEC); err != nil {
				return err
			}
			b.Call("fchdir", unix.SYS_FCHDIR, uint64(dir))
			b.Call("close", unix.SYS_CLOSE, uint64(dir))
			table.free(dir)
		}
		flags := how.Flags
		if own[i].flags&unix.FD_CLOEXEC != 0 {
			flags |= unix.O_CLOEXEC
		}
		at := table.alloc()
		o.at = append(o.at, at)
		b.Call("openat", unix.SYS_OPENAT, here, uint64(b.String(how.Name)), uint64(flags), 0)
		b.Call("fstat", unix.SYS_FSTAT, uint64(at), uint64(o.stats)+uint64(i)*linux.StatSize)
		if how.Pos != 0 {
			b.Call("lseek", unix.SYS_LSEEK, uint64(at), how.Pos, unix.SEEK_SET)
		}
	}
	return nil
}

// here is AT_FDCWD as the kernel takes it.
const here = ^uint64(99)

// end waits for what was begun, and compares what was opened with what it was.
func (o *opens) end(ctx context.Context) error {
	if o.batch == nil || o.waited {
		return nil
	}
	o.waited = true
	if err := o.batch.Wait(); err != nil {
		return o.why(ctx, err)
	}
	const some = 256
	var stats [some]unix.Stat_t
	var errs []error
	for i := 0; i < len(o.nodes); i += some {
		n := min(some, len(o.nodes)-i)
		if err := remote.ReadFull(o.t.live.thread.Tgid, o.stats+remote.Addr(uint64(i)*linux.StatSize), linux.StatBytes(stats[:n])); err != nil {
			return err
		}
		for k, node := range o.nodes[i : i+n] {
			if err := node.Confirm(o.r.env, &stats[k]); err != nil {
				errs = append(errs, failure(node, err))
			}
			o.r.files.used(node.ID())
		}
	}
	return errors.Join(errs...)
}

// why says of each file what is wrong with it, if one could not be opened.
func (o *opens) why(ctx context.Context, err error) error {
	var errs []error
	for _, n := range o.nodes {
		d, err := n.Create(ctx, o.r.env)
		if err != nil {
			errs = append(errs, failure(n, err))
			continue
		}
		d.Close()
	}
	if len(errs) == 0 {
		return err
	}
	return errors.Join(errs...)
}
