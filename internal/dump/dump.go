// Package dump is the order of work of a dump: collect, freeze, dump, write,
// thaw. It knows no kind of thing by name but memory, whose pages are a stage
// of their own.
package dump

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"glis.dev/glis/image"
	criu_core "glis.dev/glis/image/criu/criu-core"
	"glis.dev/glis/image/criu/stats"
	"glis.dev/glis/internal/arch"
	"glis.dev/glis/internal/event"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/guardian"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kind/cgroup"
	"glis.dev/glis/internal/kind/mem"
	"glis.dev/glis/internal/kind/ns"
	"glis.dev/glis/internal/kind/task"
	"glis.dev/glis/internal/kinds"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/netlock"
	"glis.dev/glis/internal/pages"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/remote"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/taskmem"
	"glis.dev/glis/internal/tracee"
	"glis.dev/glis/internal/undo"
	"glis.dev/glis/internal/vmamem"
	"glis.dev/glis/options"
)

// Run dumps the tree of task o.Tree into store, which must be empty of
// checkpoints. If it fails, or ctx ends first, the tree runs on as before and
// what was written is removed.
// The figures are those of stats-dump. obs are told how far it is.
func Run(ctx context.Context, o *options.Dump, store image.Store, log *slog.Logger, obs event.All) (*stats.DumpStatsEntry, error) {
	if err := arch.Supported(); err != nil {
		return nil, err
	}
	d := newDump(o, store, log)
	d.obs = obs
	if err := errors.Join(d.checkTarget(ctx), d.lockStore()); err != nil {
		return nil, err
	}
	defer d.unlockStore()
	if err := d.checkStore(); err != nil {
		return nil, err
	}
	if err := d.awaitTurn(ctx); err != nil {
		return nil, err
	}
	defer d.turn.Close() //nolint:errcheck // only locked
	if err := obs.Notify(ctx, event.PreDump, o.Tree); err != nil {
		return nil, err
	}
	fd.MakeRoom(fd.Plenty)
	if err := d.startGuard(); err != nil {
		return nil, err
	}
	defer d.guard.Close()
	if err := d.makeRoom(); err != nil {
		return nil, errors.Join(err, d.discard())
	}
	err := d.work(ctx)
	switch {
	case err == nil:
		d.statsApart()
		return d.stats(), nil
	case d.committed:
		return d.finished(err)
	}
	return nil, d.takenBack(err)
}

// makeRoom gets the memory that pages are copied into, here and in the images,
// before the freeze.
func (d *dump) makeRoom() (err error) {
	if d.stays() && d.anon <= mostLater/2 {
		d.later = newLater(d.store)
		d.env.Pages = d.later.make(image.Pages.FileName(1), int(d.anon)+roomMore)
		return nil
	}
	d.env.Buffer = pages.Buffer()
	d.env.Pages, err = mem.Early(d.store, d.anon)
	return err
}

// roomMore is how much more than its own memory of a process is stored, in
// bytes: pages that it has in swap, or gets until it is frozen.
const roomMore = 128 << 10

// pagesStore is where pages go while the tree is frozen. Several tasks may have
// links between their files, which must be there then.
func (d *dump) pagesStore() image.Store {
	if len(d.spaces) > 1 && d.later != nil {
		d.later, d.env.Pages = nil, nil
	}
	if d.later == nil {
		return d.store
	}
	return d.later
}

type dump struct {
	opts            *options.Dump
	log             *slog.Logger
	obs             event.All
	store           *image.Recorder
	sink            *sink
	later           *later // nil: all goes into files at once
	kinds           *kinds.Set
	env             *kind.DumpEnv
	tree            *scan.Tree
	ctx             context.Context // its end is the end of the time that the tree stands still
	freezer         *freezer
	files           *files
	undo            undo.Stack // of what was done outside of images and tasks
	guard           *guard
	flows           []netlock.Flow // that are locked
	away            []netlock.Flow // that are to be dropped until the restore
	shuts           bool           // listeners: nobody gets through to them any more
	brakes          brakes
	turn            *fd.FD // the lock that says that it is our turn
	self            int
	runID           string
	vmas            *vmamem.Reader    // nil: mappings are read from smaps
	undoes          *taskmem.Undo     // nil: see hasUndo
	sandboxes       *taskmem.Landlock // nil: nobody looks for Landlock
	askedLandlock   bool              // for the kernel has it, or not
	saidSandbox     bool              // that the tree is in Glis's own
	memoryOf        *kmem.Shared      // the kernel's, for kinds
	blocks          *kmem.Shared      // the same, for calls that were interrupted
	semaphores      bool              // there are System V semaphores
	anon            uint64            // memory of the root's own, before the freeze, in bytes
	own             map[string]string // the engine's namespaces, by name
	anySocket       bool              // the tree had some before the freeze, or may have had
	sawSocket       bool              // one of thousands of tasks surely had one then
	descriptorsSeen int               // how many it had then, about
	committed       bool              // the images are whole, and the tree is to die
	harmed          bool              // a task may have something of ours left, or not have its own
	ownTime         bool              // the tree is in a time namespace that is not the engine's
	filters         task.Filters
	cgroups         *cgroup.Saver // nil: they are not looked at

	ahead   ahead
	taken   []taken                             // by number of a file, from 1 on
	entries int                                 // of files.img that aren't encoded
	cores   map[*scan.Task]*criu_core.CoreEntry // of leaders
	memory  map[*scan.Task]mem.Told
	spaces  []*mem.Space
	told    map[*scan.Thread]*asked // those that others are believed to be like, and witnesses
	packer  proc.Packer             // of mappings of many tasks
	calls   atomic.Int32            // that the last leader was asked to make
	xstate  [16 << 10]byte
	ports   bool // threads may have I/O ports here

	placed      map[*scan.Task]*remote.Arena // where those are that are lent
	lendsArenas bool                         // tasks have them only while they are asked

	start  time.Time // of the freeze
	closes []func()  // what is to be done at the end, in turn
	times  struct{ freezing, frozen, pages time.Duration }
	pages  mem.Stats
}

func newDump(o *options.Dump, store image.Store, log *slog.Logger) *dump {
	tree := &scan.Tree{}
	rec := image.NewRecorder(store, o.LeaveRunning || o.LeaveStopped)
	d := &dump{
		opts: o, log: log, store: rec, sink: newSink(rec), kinds: kinds.New(), tree: tree,
		freezer: &freezer{tree: tree}, guard: &guard{}, files: newFiles(tree), self: os.Getpid(), runID: newRunID(),
		cores: map[*scan.Task]*criu_core.CoreEntry{}, memory: map[*scan.Task]mem.Told{}, told: map[*scan.Thread]*asked{}, placed: map[*scan.Task]*remote.Arena{},
	}
	d.env = &kind.DumpEnv{Log: log, Options: o, Tree: tree, Images: d.sink, Files: d.files, Guard: d.guard}
	d.sink.ended, d.env.Ended = d.ended, d.ended
	d.guard.brake = d.brakeUsers
	d.env.Undo, d.env.Hold = d.undo.Push, d.hold
	if !d.stays() {
		d.env.Away = func(f netlock.Flow) { d.away = append(d.away, f) }
		d.env.Shut = d.shut
	}
	d.env.Lone, d.env.Discover = d.lone, d.discover
	d.env.Now = func(clock int32) (uint64, error) { return ns.Now(proc.PID(tree.Root.Via()), clock) }
	d.freezer.known = func(t *scan.Task) error {
		t.Dir.Until(d.ended)
		return d.guard.Task(guardian.Task{PID: t.PID, Start: t.Stat.StartTime})
	}
	d.freezer.spare = func() bool { return d.vmas.Spare() }
	return d
}

// work is the dump proper: what is done on the tracer's thread, and, if the tree
// runs on, what is done then.
func (d *dump) work(ctx context.Context) error {
	defer d.close()
	err := tracee.RunAndLeave(func() (bool, error) {
		err := d.run(ctx)
		return len(d.freezer.seized) > 0, err
	})
	if d.committed || d.start.IsZero() {
		return err
	}
	if err = d.thawed(err); err != nil {
		return err
	}
	d.obs.Stage("write")
	if err := d.writeImages(ctx); err != nil {
		return err
	}
	return d.commit(ctx)
}

// atEnd has something closed when the dump has come to its end, the last first.
func (d *dump) atEnd(f func()) { d.closes = append(d.closes, f) }

func (d *dump) close() {
	for _, f := range slices.Backward(d.closes) {
		f()
	}
}

// run is what is done on the tracer's thread. When that has ended the tree was let
// go, or is dead.
func (d *dump) run(ctx context.Context) error {
	d.atEnd(d.closeFlags)
	if err := d.openFlags(); err != nil {
		return err
	}
	if err := errors.Join(d.openHold(), d.openCgroups()); err != nil {
		return err
	}
	d.atEnd(d.closeHold)
	d.atEnd(func() { _ = d.cgroups.Close() }) // nothing was written
	notLeased := d.notLeased()
	d.openSockets()
	d.atEnd(d.closeKinds)
	if err := notLeased(); err != nil {
		return err
	}
	if err := d.foresee(); err != nil {
		return err
	}
	if err := errors.Join(d.ready(), d.guard.Ready()); err != nil {
		return err
	}
	if d.descriptorsSeen >= manyDescriptors {
		runtime.Gosched() // who has run for 10 ms, as we have, has to stop for others: not while the tree does
	}
	tracee.GiveWay()
	d.start = time.Now()
	d.atEnd(d.freezer.close)
	d.atEnd(func() { _ = d.files.close() }) // the engine's own
	d.ctx = d.deadline(ctx)
	d.memoryOf.Until(d.ended)
	d.obs.Stage("freeze")
	err := d.freeze(d.ctx)
	if err == nil {
		d.times.freezing = time.Since(d.start)
		d.ctx = d.sooner(d.ctx)
		err = d.dumpFrozen(d.ctx)
	}
	if err == nil && d.stays() {
		return d.letGo(ctx)
	}
	if err == nil {
		d.times.frozen = time.Since(d.start)
		err = d.seal(d.ctx)
	}
	if err != nil {
		return errors.Join(d.ifKilled(d.ctx, d.orOver(err)), d.thaw())
	}
	// Past this point there is no way back: the images are whole.
	d.committed = true
	d.memoryOf.Until(nil)
	d.endKinds()
	err = d.freezer.kill()
	d.keepComers()
	return err
}

// orOver says that the dump was to end, where an error tells of what could not be read since
// it was.
func (d *dump) orOver(err error) error {
	over := d.ended()
	if over == nil || errors.Is(err, context.Cause(d.ctx)) {
		return err
	}
	return errors.Join(over, err)
}

// endKinds lets kinds see to what their files leave behind.
func (d *dump) endKinds() {
	for _, k := range d.kinds.Files {
		if e, ok := k.(kind.Ender); ok {
			if err := e.End(); err != nil {
				d.log.Warn("The dump is whole, but something may be left behind", "error", err)
			}
		}
	}
}

// seal is all that has to be done before the tree may be killed. Its last step
// is the commit: until then a failure, or the engine's death, takes everything
// back; from then on nothing of the tree may live, nor run until the guardian has ended it.
func (d *dump) seal(ctx context.Context) error {
	d.obs.Stage("write")
	for _, f := range []func() error{
		d.lastLook, func() error { return d.writeImages(ctx) }, d.lateSignals,
		func() error { return d.obs.Notify(ctx, event.PostDump, d.opts.Tree) },
		func() error { return d.commit(ctx) }, d.keepLock, d.guard.Alive, d.leaveSockets, d.brakeAndCommit,
	} {
		if err := d.ended(); err != nil {
			return err
		}
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

// brakeAndCommit is one step: to take the brakes off thousands of tasks takes longer than
// what is left to do when all are braked.
func (d *dump) brakeAndCommit() error {
	if err := d.brake(); err != nil {
		return err
	}
	return d.guard.Phase(guardian.Committed)
}

// freeze stops the tree within --timeout seconds.
func (d *dump) freeze(ctx context.Context) error {
	if d.opts.Timeout > 0 {
		var cancel context.CancelFunc
		d.freezer.end = d.start.Add(d.opts.Timeout)
		ctx, cancel = context.WithDeadlineCause(ctx, d.freezer.end, fmt.Errorf("the tree did not stop within %v (--timeout)", d.opts.Timeout))
		defer cancel()
	}
	return d.freezer.freeze(ctx, proc.PID(d.opts.Tree))
}

// dumpFrozen is all that happens while the tree stands still.
func (d *dump) dumpFrozen(ctx context.Context) error {
	d.lookAhead()
	defer d.endAhead()
	steps := []struct {
		name string
		f    func() error
	}{
		{"collect", d.collect},
		{"restarted", d.seeRestarted},
		{"ask", d.askAround},
		{"sandboxes", d.noConfined},
		{"requests", func() error { return mem.Settle(ctx, d.memoryOf, d.spaces) }},
		{"memory", d.putMemory},
		{"tree", d.putTree},
		{"lock", d.lock},
		{"peeked", d.peekEnough},
		{"files", func() error { return d.dumpFiles(ctx) }},
		{"unlock", d.unlock},
		{"fdinfo", d.putFdinfo},
		{"pages", func() error { return d.dumpPages(ctx) }},
		{"cores", d.putCores},
	}
	for _, s := range steps {
		if err := d.ended(); err != nil {
			return err
		}
		from := time.Now()
		d.obs.Stage(s.name)
		if err := s.f(); err != nil {
			return err
		}
		d.log.Debug("stage done", "stage", s.name, "took", time.Since(from))
	}
	return nil
}

// lookAround is what needs no tracer and nothing of what the tasks are asked.
func (d *dump) lookAround() error {
	for _, f := range []func() error{d.noUndo, d.noLandlock, func() error { return d.cgroups.Collect(d.ended) }, d.ahead.found.Wait, d.dumpMemory} {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

func (d *dump) dumpPages(ctx context.Context) error {
	from := time.Now()
	var err error
	d.pages, err = mem.Pages(ctx, d.env, d.spaces, d.pagesStore())
	d.times.pages = time.Since(from)
	return err
}

func (d *dump) writeAndShow(ctx context.Context) error {
	if err := errors.Join(d.later.finish(), d.sink.finish(d.ctx)); err != nil {
		return err
	}
	return d.obs.Notify(ctx, event.PostDump, d.opts.Tree)
}

// writeImages writes what was kept in memory, once it is sure that a restore could
// begin with it.
func (d *dump) writeImages(ctx context.Context) error {
	whole := d.sink.whole()
	if whole {
		if err := d.rehearse(ctx); err != nil {
			return err
		}
	}
	if err := errors.Join(d.later.finish(), d.sink.finish(ctx)); err != nil {
		return err
	}
	d.spaces, d.cores, d.memory = nil, nil, nil // nobody wants them any more
	if !whole {
		if err := d.rehearseWritten(ctx); err != nil {
			return err
		}
	}
	return d.writeStats()
}

// commit writes the manifest and the inventory, the mark of a whole
// checkpoint, and makes all of it last.
func (d *dump) commit(ctx context.Context) error {
	if err := d.store.Seal(ctx, d.inventory()); err != nil {
		return err
	}
	return d.store.SyncAll(ctx)
}
