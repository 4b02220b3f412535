package restore

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kind/mem"
	facets "glis.dev/glis/internal/kind/task"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/remote"
	"glis.dev/glis/internal/scan"
)

// descriptorsFirst gives all tasks their descriptors, where tasks have a part in
// making files: while every task can do everything, and those that are to end are
// there.
func (r *restore) descriptorsFirst(ctx context.Context) error {
	if r.given = r.files.needsMakers(); r.given {
		return r.giveDescriptors(ctx)
	}
	return nil
}

// finishTree gives every task what does not concern its address space:
// descriptors, directories, what belongs to the process, threads.
func (r *restore) finishTree(ctx context.Context) error {
	var before relay
	for _, t := range r.tree.tasks {
		if t.zombie {
			continue
		}
		if err := context.Cause(ctx); err != nil {
			return errors.Join(err, before.end())
		}
		if err := r.finishTask(ctx, t, &before); err != nil {
			return errors.Join(fmt.Errorf("%v: %w", t, err), before.end())
		}
	}
	r.foresee()
	if err := r.promise(); err != nil {
		return errors.Join(err, before.end())
	}
	if err := before.end(); err != nil {
		return err
	}
	if err := r.files.late(ctx); err != nil {
		return err
	}
	return r.askAsync()
}

func (r *restore) finishTask(ctx context.Context, t *task, before *relay) error {
	if r.given {
		return r.finishGiven(ctx, t, nil, &opens{}, before)
	}
	own := t.ordered()
	o, err := r.openOwn(ctx, t, own, before)
	if err == nil {
		err = r.finishGiven(ctx, t, own, o, before)
	}
	if err != nil {
		return errors.Join(err, o.end(ctx))
	}
	return nil
}

// finishGiven is finishTask for one that opens files, and is given its own descriptors.
func (r *restore) finishGiven(ctx context.Context, t *task, own []descriptor, o *opens, before *relay) error {
	l := t.live
	b := l.arena.Batch(l.thread)
	joinGroup(b, t)
	if err := r.descriptors(ctx, b, t, own, o); err != nil {
		return err
	}
	if err := r.finishMembers(b, t, own); err != nil {
		return err
	}
	if err := r.finishCommon(ctx, b, t); err != nil {
		return err
	}
	if err := r.places(ctx, b, t); err != nil {
		return err
	}
	if err := r.foreground(b, t); err != nil {
		return err
	}
	flushChildSignals(b)
	redo, err := r.redo(b, &t.images[0])
	if err == nil {
		err = restoreFacets(r.kinds.Early, redo)
	}
	if err != nil {
		return err
	}
	if len(t.threads) == 1 {
		if err := r.finishLeader(b, t); err != nil {
			return err
		}
	}
	r.cloneThreads(b, t)
	if err := o.end(ctx); err != nil {
		return err
	}
	return before.next(t, b, func() error {
		if len(t.threads) == 1 {
			return nil // what Rearm needs lies in the arena
		}
		l.arena.Reset()
		return r.awaitThreads(t)
	})
}

// finishLeader queues the leader's last calls: its own state, when all other
// threads of the process have theirs.
func (r *restore) finishLeader(b *remote.Batch, t *task) error {
	leader, err := r.tree.leaderOf(t)
	if err != nil {
		return err
	}
	redo, err := r.redo(b, leader)
	if err == nil {
		err = restoreFacets(r.kinds.Leader, redo)
	}
	if err != nil {
		return err
	}
	if err := facets.RestoreDumpable(b, scan.VPID(t.pid), t.space.Entry.Dumpable); err != nil {
		return err
	}
	if !t.sharesFiles() && !t.lendsFiles() {
		b.Call("close", unix.SYS_CLOSE, uint64(r.transport.number))
	}
	leader.wake.Prepare(b)
	t.images[0].at = leader.wake.At
	return nil
}

// lendsFiles tells whether a child shares the task's descriptors.
func (t *task) lendsFiles() bool { return slices.ContainsFunc(t.children, (*task).sharesFiles) }

// places sets what a task's address space and file system context refer to
// by descriptor: executable, working directory, root.
func (r *restore) places(ctx context.Context, b *remote.Batch, t *task) error {
	uses := []mem.Use{{ID: plan.ID(t.space.Entry.GetExeFileId())}}
	cwd, root := mem.Use{ID: plan.ID(t.fs.GetCwdId())}, mem.Use{ID: plan.ID(t.fs.GetRootId())}
	enter := !t.sharesFS() && !t.entered
	if enter {
		for _, u := range []mem.Use{cwd, root} {
			if u != uses[0] && u != uses[len(uses)-1] {
				uses = append(uses, u)
			}
		}
	}
	numbers, err := r.lend(ctx, b, t, uses)
	if err != nil {
		return err
	}
	t.space.Finish(b, uint64(numbers[uses[0]]))
	if enter {
		r.enter(ctx, b, root, cwd, numbers)
	}
	if !t.sharesFS() {
		facets.RestoreUmask(b, t.fs.GetUmask())
	}
	r.takeBack(b, t, numbers)
	return nil
}

// enter queues what gives a task its root and working directory.
func (r *restore) enter(ctx context.Context, b *remote.Batch, root, cwd mem.Use, numbers map[mem.Use]int32) {
	r.enterRoot(ctx, b, root, numbers)
	b.Call("fchdir", unix.SYS_FCHDIR, uint64(numbers[cwd]))
}

// enterBrief lets tasks enter directories that are there only as long as
// helpers are.
func (r *restore) enterBrief(ctx context.Context) error {
	for _, t := range r.tree.tasks {
		if t.zombie || t.sharesFS() {
			continue
		}
		cwd, root := mem.Use{ID: plan.ID(t.fs.GetCwdId())}, mem.Use{ID: plan.ID(t.fs.GetRootId())}
		if _, ok := r.plan.Node(cwd.ID).(plan.Brief); !ok {
			continue
		}
		b := t.live.arena.Batch(t.live.thread)
		numbers, err := r.lend(ctx, b, t, slices.Compact([]mem.Use{cwd, root}))
		if err == nil {
			r.enter(ctx, b, root, cwd, numbers)
			r.takeBack(b, t, numbers)
			err = b.Run()
		}
		if err != nil {
			return fmt.Errorf("%v: %w", t, err)
		}
		t.live.arena.Reset()
		t.entered = true
	}
	return nil
}

// enterRoot changes the root directory, unless it is the engine's own.
func (r *restore) enterRoot(ctx context.Context, b *remote.Batch, root mem.Use, numbers map[mem.Use]int32) {
	var ours, its unix.Stat_t
	f, err := r.files.get(ctx, root.ID)
	if err == nil && unix.Fstat(f.Int(), &its) == nil && unix.Stat("/", &ours) == nil && ours.Dev == its.Dev && ours.Ino == its.Ino {
		return
	}
	b.Call("fchdir", unix.SYS_FCHDIR, uint64(numbers[root]))
	b.Call("chroot", unix.SYS_CHROOT, uint64(b.String(".")))
}

// flushChildSignals forgets the SIGCHLDs of helpers and zombies: setting a
// signal to be ignored drops those that are queued. The signals facet then
// sets every action.
func flushChildSignals(b *remote.Batch) {
	ignore := b.U64(1, 0, 0, 0) // SIG_IGN
	b.Call("rt_sigaction", unix.SYS_RT_SIGACTION, uint64(unix.SIGCHLD), uint64(ignore), 0, linux.KernelSigsetSize)
}

const threadFlags = linux.CLONE_VM | linux.CLONE_FS | linux.CLONE_FILES | linux.CLONE_SIGHAND | linux.CLONE_THREAD | linux.CLONE_SYSVSEM | linux.CLONE_PTRACE

// cloneThreads queues the births of all threads but the leader.
func (r *restore) cloneThreads(b *remote.Batch, t *task) {
	if first := b.Len(); len(t.threads) > 1 {
		b.Retry(whileThreadsGo(first, t.threads[1:], func() func() bool { return aMoment(goingMost) }))
	}
	for _, tid := range t.threads[1:] {
		args := linux.CloneArgs{Flags: threadFlags, SetTidSize: 1}
		args.SetTid = uint64(b.Bytes([]byte{byte(tid), byte(tid >> 8), byte(tid >> 16), byte(tid >> 24)}))
		b.Call("clone3", unix.SYS_CLONE3, uint64(b.Bytes(args.Bytes())), linux.CloneArgsSize)
		th := &remote.Thread{Tgid: proc.PID(t.pid), TID: proc.TID(tid)}
		th.SetSignal(t.signal)
		t.live.threads = append(t.live.threads, th)
	}
}

func (r *restore) awaitThreads(t *task) error {
	for _, th := range t.live.threads[1:] {
		if err := firstStop(th); err != nil {
			return err
		}
	}
	return r.spreadThreads(t)
}

// redo is what facets need to bring a thread's state back.
func (r *restore) redo(b *remote.Batch, th *thread) (*kind.Redo, error) {
	t := th.task
	leader, err := r.tree.leaderOf(t)
	if err != nil {
		return nil, err
	}
	if th.tid == t.pid {
		th = leader
	}
	return &kind.Redo{
		Env: r.env, Batch: b, Leader: leader.core, Core: th.core, SameFilters: t.sameFilters, Extra: th.extra,
		PID: scan.VPID(t.pid), TID: scan.VPID(th.tid), Host: t.live.thread.Tgid,
	}, nil
}

func restoreFacets(list []kind.Facet, redo *kind.Redo) error {
	for _, f := range list {
		if err := f.Restore(redo); err != nil {
			return fmt.Errorf("%s: %w", f.Name(), err)
		}
	}
	return nil
}

// seal closes the transport of tasks that share their descriptors with
// children, which have needed it up to now.
func (r *restore) seal() error {
	for _, t := range r.tree.tasks {
		if t.zombie || t.sharesFiles() || !t.lendsFiles() {
			continue
		}
		b := t.live.arena.Batch(t.live.thread)
		b.Call("close", unix.SYS_CLOSE, uint64(r.transport.number))
		if err := b.Run(); err != nil {
			return fmt.Errorf("%v: %w", t, err)
		}
	}
	return r.segments.Seal()
}
