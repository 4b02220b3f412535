package restore

import (
	"fmt"

	"glis.dev/glis/image"
	criu_core "glis.dev/glis/image/criu/criu-core"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/kind"
	facets "glis.dev/glis/internal/kind/task"
	"glis.dev/glis/internal/remote"
)

// thread is one thread's images. If there are many threads, those that are no leaders
// are kept as the entries that they were read from, which take a fifth of the memory:
// see whole.
type thread struct {
	task  *task
	tid   uint32
	set   uint32 // of cgroups that it is in
	under filter // of seccomp
	// waiting are the signals that wait for it, as facets.Waiting has them.
	waiting uint64
	heeds   bool                 // its parent's end: it has PR_SET_PDEATHSIG
	ends    bool                 // see firstEnds
	blocked uint64               // by one that ends so, when it has
	mask    uint64               // of blocked signals
	slept   bool                 // see facets.Wake.Slept
	core    *criu_core.CoreEntry // nil, as the two below, if it is kept as its entry
	extra   kind.Extra
	wake    *facets.Wake // what it begins to run with
	entry   []byte
	shelf   *shelf // where the entry is in place of entry; nil: it isn't
	place   place
	at      remote.Addr // where what its wake needs was put in the task
}

// manyThreads is from how many on most are kept as their entries, and manyTasks from how
// many processes on those are on a shelf.
const (
	manyThreads = 2000
	manyTasks   = 1500
)

// read reads a thread's image, and checks it.
func (th *thread) read(s image.Store, keep bool, shelf *shelf) error {
	if th.core == nil {
		var err error
		if th.core, err = image.ReadOne[*criu_core.CoreEntry](s, image.Core, th.tid); err != nil {
			return err
		}
	}
	th.set, th.under, th.waiting = setOf(th.core), filterOf(th.core), facets.Waiting(th.core)
	th.heeds = th.core.GetThreadCore().GetPdeathSig() != 0
	if err := th.look(); err != nil {
		return fmt.Errorf("%s: %w", image.Core.FileName(th.tid), err)
	}
	th.mask, th.slept = th.wake.Mask, th.wake.Slept()
	if err := th.mayEnd(); err != nil || keep || th.tid == th.task.pid && shelf == nil {
		return err
	}
	e, err := proto.Encode(th.core)
	if err != nil {
		return err
	}
	b := e.AppendFields(make([]byte, 0, e.Size()))
	if shelf == nil {
		th.entry = b
	} else if th.place, err = shelf.put(b); err != nil {
		return err
	}
	th.shelf, th.core, th.extra, th.wake = shelf, nil, nil, nil
	return nil
}

// look reads what is not plain from the core entry.
func (th *thread) look() (err error) {
	if th.extra, err = facets.ReadExtra(th.core); err == nil {
		th.wake, err = facets.ReadWake(th.core, th.extra)
	}
	return err
}

// whole returns the thread with all that its image says: it is read once more each time
// if it is kept as its entry.
func (th *thread) whole() (*thread, error) {
	if th.core != nil {
		return th, nil
	}
	out := *th
	out.core = &criu_core.CoreEntry{}
	entry, err := th.entry, error(nil)
	if th.shelf != nil {
		entry, err = th.shelf.get(th.place)
	}
	if err == nil {
		err = proto.Unmarshal(entry, out.core)
	}
	if err == nil {
		err = out.look()
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", image.Core.FileName(th.tid), err)
	}
	out.wake.At = th.at
	return &out, nil
}

// leaderOf returns the first thread of a task with all that its image says. On the
// tracer's thread.
func (tr *tree) leaderOf(t *task) (*thread, error) {
	if tr.leader != nil && tr.leader.task == t {
		return tr.leader, nil
	}
	th, err := t.images[0].whole()
	if err == nil {
		tr.leader = th
	}
	return th, err
}

// restoreThreads has every thread of the tree bring back its own state, one
// batch each: first all that are not leaders, then the leaders, since a
// change of credentials in any thread concerns the whole process.
func (r *restore) restoreThreads() error {
	for _, leaders := range []bool{false, true} {
		if err := r.restoreSome(leaders); err != nil {
			return err
		}
	}
	return nil
}

// restoreSome runs the batches of all leaders, or of all others, many at a time:
// none waits for another one.
func (r *restore) restoreSome(leaders bool) error {
	var running []*remote.Batch
	for _, t := range r.tree.tasks {
		if t.zombie || len(t.threads) == 1 {
			continue
		}
		for i, th := range t.live.threads {
			if (i == 0) != leaders {
				continue
			}
			b, err := r.restoreThread(th, &t.images[i])
			if err == nil {
				running, err = awaitFew(append(running, b))
			}
			if err != nil {
				return fmt.Errorf("%v: thread %d: %w", t, t.threads[i], err)
			}
		}
	}
	for _, b := range running {
		if err := b.Wait(); err != nil {
			return err
		}
	}
	return nil
}

// mostRunning is how many batches run at a time: what is known of one takes a few KiB
// as long.
const mostRunning = 256

// awaitFew waits for the first of the batches that run if they are many, and returns
// the rest.
func awaitFew(running []*remote.Batch) ([]*remote.Batch, error) {
	if len(running) < mostRunning {
		return running, nil
	}
	first := running[0]
	running[0] = nil
	return running[1:], first.Wait()
}

func (r *restore) restoreThread(th *remote.Thread, images *thread) (*remote.Batch, error) {
	t := images.task
	b := t.live.arena.Batch(th)
	if images.tid == t.pid {
		if err := r.finishLeader(b, t); err != nil {
			return nil, err
		}
		return b, b.Start()
	}
	whole, err := images.whole()
	if err != nil {
		return nil, err
	}
	redo, err := r.redo(b, whole)
	if err == nil {
		err = restoreFacets(r.kinds.Thread, redo)
	}
	if err != nil {
		return nil, err
	}
	whole.wake.Prepare(b)
	images.at = whole.wake.At
	return b, b.Start()
}
