// Package restore is the order of work of a restore: read, plan, create,
// finish, resume, or undo. It knows no kind of thing by name but memory.
package restore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/stats"
	"glis.dev/glis/internal/arch"
	"glis.dev/glis/internal/event"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/guardian"
	"glis.dev/glis/internal/kind/cgroup"
	"glis.dev/glis/internal/kind/mem"
	"glis.dev/glis/internal/kind/ns"
	"glis.dev/glis/internal/kinds"
	"glis.dev/glis/internal/netlock"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/tracee"
	"glis.dev/glis/internal/undo"
	"glis.dev/glis/options"
)

// Restored is a tree that runs again.
type Restored struct {
	PID   int // of the root task
	Stats *stats.RestoreStatsEntry
}

// Run makes the tree in store again. Its root is a child of this process (or
// its sibling, with o.Sibling; or nobody's, with o.Detach, if it would hear of the
// parent's end). If it fails nothing of the tree remains. obs are
// told how far it is.
func Run(ctx context.Context, o *options.Restore, store image.Store, log *slog.Logger, obs event.All) (*Restored, error) {
	if err := arch.Supported(); err != nil {
		return nil, err
	}
	if err := proc.Ours(); err != nil {
		return nil, err
	}
	r := &restore{opts: o, log: log, obs: obs, store: store, kinds: kinds.New(), finished: map[plan.ID]bool{}}
	if err := obs.Notify(ctx, event.PreRestore, 0); err != nil {
		return nil, err
	}
	obs.Stage("plan")
	fd.MakeRoom(fd.Plenty)
	if err := r.startGuard(); err != nil {
		return nil, err
	}
	defer r.guard.Close()
	if err := r.check(); err != nil {
		return nil, err
	}
	defer func() { r.tree.close() }() // also one that could not be read to its end
	if err := r.prepare(ctx); err != nil {
		return nil, err
	}
	defer r.close()
	start := time.Now()
	if err := tracee.RunAndStay(func() (bool, error) { return r.parentStays(), r.run(ctx) }); err != nil {
		return nil, r.takenBack(err)
	}
	r.mend()
	s := r.stats(time.Since(start))
	r.files.follow()
	if err := r.writeStats(s); err != nil {
		log.Warn("The tree runs, but its statistics could not be written", "err", err)
	}
	return &Restored{PID: r.rootPID(), Stats: s}, nil
}

func (r *restore) rootPID() int { return int(r.tree.root.pid) }

type restore struct {
	opts      *options.Restore
	log       *slog.Logger
	obs       event.All
	store     image.Store
	checked   *image.Checked // is store, if there are checksums
	kinds     *kinds.Set
	tree      *tree
	plan      *plan.Plan
	env       *plan.Env
	files     *files
	makers    *makers
	given     bool // every task has its descriptors
	transport *transport
	undo      undo.Stack
	left      error // why the undo has left something, or nil
	lived     error // why the tree, which lives, may not be as it was, or nil
	finished  map[plan.ID]bool
	pages     mem.Stats
	segments  *mem.Attachable
	helpers   []helper      // of sessions whose leaders have ended
	cgroups   *cgroup.Maker // nil: all are where Glis is
	clocks    *ns.Clocks    // to go on from, in a time namespace; nil: the engine's
	forking   time.Duration

	guard       *guardian.Guard
	flows       []netlock.Flow // to be locked
	kept        string         // the table that locks them since the dump; "": none
	resumptions []resumption
	promised    []guardian.Option // what the guardian is to do of them
	braked      []*task
	parent      *thread // see parentOf
}

// check has everything that is read from now on compared with the checksums
// of the dump, if there are any.
func (r *restore) check() error {
	var err error
	if r.checked, err = image.Check(r.store); r.checked != nil {
		r.store = r.checked
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil // no checkpoint at all, which read says
	}
	if err == nil && r.checked == nil {
		r.log.Warn("The images have no checksums (criu writes none): damage may not be noticed", "dir", r.store)
	}
	return err
}

// prepare is all that needs no process: images, plan, and whether the numbers
// of the tree are free.
func (r *restore) prepare(ctx context.Context) error {
	env, err := r.readAndPlan(ctx)
	if err != nil {
		return err
	}
	// Behind the plan, which has read most of it.
	if err := r.checked.Metadata(ctx); err != nil {
		return err
	}
	if err := r.checkNumbers(); err != nil {
		return err
	}
	if err := r.checkShared(env); err != nil {
		return err
	}
	if r.clocks, err = wantClocks(r.tree, r.store); err != nil {
		return err
	}
	r.env = &plan.Env{Log: r.log, Options: r.opts, Store: r.store, Now: func(clock int32) (uint64, error) {
		return ns.Now(r.tree.root.live.thread.Tgid, clock)
	}}
	if err := errors.Join(r.planLock(r.tree.inventory), r.planCgroups()); err != nil {
		return err
	}
	r.makers = newMakers(r)
	r.env.As, r.env.Alive, r.env.Holding = r.makers.as, r.makers.alive, r.makers.holding
	if r.files, err = newFiles(r.plan, r.env); err != nil {
		return err
	}
	r.files.lock = r.kinds.TakeLocks
	for _, t := range r.tree.tasks {
		if t.zombie {
			continue
		}
		for _, u := range t.space.Files() {
			r.files.all.At(u.ID).left++ // mappings keep a file from being closed early
		}
	}
	limit, err := raiseFileLimit()
	if err != nil {
		return err
	}
	r.files.room = int(limit)
	number, err := r.tree.transport(limit)
	if err != nil {
		return err
	}
	r.transport, err = newTransport(number)
	return err
}

// readAndPlan makes the plan from the images. Open files are decoded while the rest is
// read, since the plan begins with them.
func (r *restore) readAndPlan(ctx context.Context) (*plan.CheckEnv, error) {
	files := beginFiles(r.store)
	defer files.Stop()
	var err error
	if r.tree, err = read(r.store); err != nil {
		return nil, err
	}
	if err := r.checkParent(); err != nil {
		return nil, err
	}
	env, err := r.checkEnv()
	if err != nil {
		return nil, err
	}
	env.Ended = func() error { return context.Cause(ctx) }
	r.plan, err = makePlan(r.tree, r.store, files, r.opts, r.kinds, env)
	return env, err
}

// raiseFileLimit raises the engine's soft limit of open files to the hard one
// and returns it.
func raiseFileLimit() (int32, error) {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return 0, fmt.Errorf("getrlimit: %w", err)
	}
	l.Cur = l.Max
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return 0, fmt.Errorf("setrlimit: %w", err)
	}
	return int32(min(l.Max, maxFD)), nil
}

func (r *restore) close() {
	r.files.close()
	r.transport.close()
	_ = r.cgroups.Close() // nothing is buffered
}

// run is the restore proper, on the tracer's thread.
func (r *restore) run(ctx context.Context) error {
	steps := []struct {
		name string
		f    func() error
	}{
		{"segments", func() error { return r.makeSegments(ctx) }},
		{"cgroups", r.makeCgroups},
		{"create", func() error { return r.createLocked(ctx) }},
		{"groups", r.makeGroups},
		{"descriptors", func() error { return r.descriptorsFirst(ctx) }},
		{"zombies", r.makeZombies},
		{"finish", func() error { return r.finishTree(ctx) }},
		{"threads", r.restoreThreads},
		{"seal", r.seal},
		{"verify", func() error { return r.checked.Rest(ctx) }},
		{"limits", r.cgroups.Settle},
		{"pidfile", r.writePidfile},
		{"post-restore", func() error { return r.obs.Notify(ctx, event.PostRestore, r.rootPID()) }},
		{"resume", func() error { return r.resume(ctx) }},
	}
	for _, s := range steps {
		from := time.Now()
		r.obs.Stage(s.name)
		if err := s.f(); err != nil {
			r.left = r.undo.Run()
			return err
		}
		r.log.Debug("stage done", "stage", s.name, "took", time.Since(from))
	}
	return nil
}
