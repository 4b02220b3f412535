package restore

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/par"
	"glis.dev/glis/internal/plan"
)

// crew makes files on all CPUs. Whoever waits for one of them makes others
// meanwhile, so that no thread has to be woken for it.
type crew struct {
	f      *files
	own    *descriptor // the first that it makes files for
	ctx    context.Context
	jobs   []job
	next   atomic.Int64 // the first that nobody has begun with
	others sync.WaitGroup
	alone  atomic.Bool // nobody else is to begin with more
	apart  par.Seats
	at     int // the first that was not handed over yet
}

// job is a file to be made.
type job struct {
	node plan.Node
	made atomic.Bool
	d    *fd.FD
	ino  uint64
	err  error
}

const (
	// someAhead is from how many files on it pays to wake another thread.
	someAhead = 32
	// fewJobs is how many files one thread makes at a time.
	fewJobs = 16
)

// ahead begins to make files whose needs are there, on all CPUs, before get asks for
// them. If others must not be made while one of them is filled, all are made when it
// returns.
func (f *files) ahead(ctx context.Context, own []descriptor) error {
	if len(own) < someAhead || f.crew != nil && f.crew.own == &own[0] {
		return nil
	}
	f.dismiss()
	nodes, err := f.makable(ctx, own)
	if err != nil {
		return err
	}
	c := &crew{f: f, own: &own[0], jobs: make([]job, 0, len(nodes))}
	streamed := true
	for _, n := range nodes {
		at := f.all.At(n.ID())
		if at.open != nil { // the need of one that came later, as of a listener whom it waits at
			at.queued = false
			continue
		}
		c.jobs = append(c.jobs, job{node: n})
		streamed = streamed && streams(n)
	}
	c.begin(ctx)
	if f.crew = c; !streamed {
		c.finish()
	}
	return nil
}

func streams(n plan.Node) bool {
	s, ok := n.(plan.Streamed)
	return ok && s.Streamed()
}

// streams tells whether all files of descriptors may be made while others are filled.
func (f *files) streams(own []descriptor) bool {
	for _, e := range own {
		if !streams(f.plan.Node(e.id)) {
			return false
		}
	}
	return true
}

// makable queues the files of descriptors that are not made yet, and can be. It makes
// what they need.
func (f *files) makable(ctx context.Context, own []descriptor) ([]plan.Node, error) {
	out := make([]plan.Node, 0, len(own))
	for _, e := range own {
		id := e.id
		at, n := f.all.At(id), f.plan.Node(id)
		if at.open != nil || at.queued {
			continue
		}
		ok, err := f.mayNow(ctx, n)
		if err != nil {
			return nil, err
		}
		if ok {
			out, at.queued = append(out, n), true
		}
	}
	return out, nil
}

func (c *crew) begin(ctx context.Context) {
	c.ctx = ctx
	others := min(runtime.GOMAXPROCS(0)-1, len(c.jobs)/fewJobs)
	if others > 0 {
		c.apart.Sit()
	}
	for range others {
		c.others.Go(func() {
			c.apart.Sit()
			for !c.alone.Load() && c.some() {
			}
		})
	}
	if others > 0 {
		c.apart.Spread()
	}
}

// some makes a few files that nobody has begun with; false: there are none.
func (c *crew) some() bool {
	end := int(c.next.Add(fewJobs))
	if from := end - fewJobs; from < len(c.jobs) {
		c.make(c.jobs[from:min(end, len(c.jobs))])
	}
	return end < len(c.jobs)
}

// make makes some files, together if the first one likes that.
func (c *crew) make(jobs []job) {
	t, ok := jobs[0].node.(plan.Together)
	if !ok {
		for i := range jobs {
			j := &jobs[i]
			j.d, j.ino, j.err = c.f.create(c.ctx, j.node)
			j.made.Store(true)
		}
		return
	}
	var nodes [fewJobs]plan.Node
	for i := range jobs {
		nodes[i] = jobs[i].node
	}
	t.CreateAll(c.ctx, c.f.env, nodes[:len(jobs)], func(i int, d *fd.FD, err error) {
		j := &jobs[i]
		j.d, j.ino, j.err = c.f.created(j.node, d, err)
		j.made.Store(true)
	})
}

// finish returns when all are made.
func (c *crew) finish() {
	for c.some() {
	}
	c.others.Wait()
}

// settle has the files made that these descriptors are of, as far as ahead began
// with them, and fills them.
func (f *files) settle(ctx context.Context, own []descriptor) error {
	c := f.crew
	if c == nil {
		return nil
	}
	for _, e := range own {
		for at := f.all.At(e.id); at.queued && at.open == nil && c.at < len(c.jobs); {
			if err := c.handOver(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// settleAll is settle for all descriptors that ahead was told of.
func (f *files) settleAll(ctx context.Context) error {
	if c := f.crew; c != nil {
		c.finish()
		for c.at < len(c.jobs) {
			if err := c.handOver(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// handOver has the next file made, and filled. If it can't be made all are tried, to
// tell of each.
func (c *crew) handOver(ctx context.Context) error {
	j := &c.jobs[c.at]
	for !j.made.Load() {
		if !c.some() {
			c.others.Wait()
		}
	}
	if j.err != nil {
		return c.failures()
	}
	c.at++
	if err := c.f.made(ctx, j.node, j.d, j.ino); err != nil {
		return failure(j.node, err)
	}
	return nil
}

// leave leaves a CPU to somebody else: where there are two, others make nothing more.
func (c *crew) leave() {
	if c != nil && runtime.GOMAXPROCS(0) == 2 {
		c.alone.Store(true)
	}
}

func (c *crew) failures() error {
	c.finish()
	var errs []error
	for i := range c.jobs {
		if j := &c.jobs[i]; j.err != nil {
			errs = append(errs, failure(j.node, j.err))
		}
	}
	return errors.Join(errs...)
}

func failure(n plan.Node, err error) error {
	if id, s := fmt.Sprintf("%#x", n.ID()), n.String(); !strings.Contains(s, id+":") {
		return fmt.Errorf("file %s, %s: %w", id, s, err)
	}
	return fmt.Errorf("%v: %w", n, err) // it says its number itself, as most do
}

// dismiss has nobody make files any more. Those that nobody has taken over are closed.
func (f *files) dismiss() {
	c := f.crew
	if c == nil {
		return
	}
	c.next.Store(int64(len(c.jobs)))
	c.others.Wait()
	for i := c.at; i < len(c.jobs); i++ {
		if d := c.jobs[i].d; d != nil {
			d.Close()
		}
		f.all.At(c.jobs[i].node.ID()).queued = false
	}
	f.crew = nil
}

// atOnce is how many files are made ahead of their use: those of a message, or, if
// the engine may have all, so many that nobody waits.
func (f *files) atOnce() int {
	if f.plenty() {
		return len(f.nodes)
	}
	return fd.MaxRights
}

// plenty tells whether the engine may have all files at a time.
func (f *files) plenty() bool { return len(f.nodes)+spareFiles <= f.room }

// mayNow tells whether a file can be made while others are. It makes what the file
// needs, as a listener that all connections from it do, unless that can be made
// while others are, too.
func (f *files) mayNow(ctx context.Context, n plan.Node) (bool, error) {
	if !independent(n) {
		return false, nil
	}
	for _, need := range n.Needs() {
		if f.opened(need) == nil && independent(f.plan.Node(need)) {
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
