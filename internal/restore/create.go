package restore

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/arch"
	"glis.dev/glis/internal/guardian"
	"glis.dev/glis/internal/kind/mem"
	facets "glis.dev/glis/internal/kind/task"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/par"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/remote"
	"glis.dev/glis/internal/stub"
	"glis.dev/glis/internal/tracee"
)

// live is what became of a task: a stopped process with our memory in it.
type live struct {
	thread  *remote.Thread // the leader
	threads []*remote.Thread
	arena   *remote.Arena
	table   *fdTable
	insn    remote.Addr // a system-call instruction outside of the arena; the stub's
	cgroups uint32      // the set of them that it is in
	gone    bool
}

// createTree makes all tasks, parents before children: a child begins as a
// copy of its parent, so a parent's memory is complete before.
func (r *restore) createTree(ctx context.Context) error {
	root := r.tree.root
	if err := r.guard.Ready(); err != nil {
		return err
	}
	st, err := r.startStub()
	if err != nil {
		return err
	}
	from := uint64(linux.CLONE_PARENT)
	if r.disowned() {
		from = 0 // a child of the stub, which ends
	}
	if err := r.clone(st, root, from); err != nil {
		return err
	}
	if err := kill(st); err != nil {
		return err
	}
	var before relay
	if err = r.build(ctx, root, &before); err == nil {
		err = r.makeAfar(ctx, &before)
	}
	return errors.Join(err, before.end())
}

// createLocked makes the processes, and holds packets back meanwhile: before both are done
// none of them has a socket. Begin is called of files as long as there is time for it.
func (r *restore) createLocked(ctx context.Context) error {
	if len(r.flows) < manyFlows {
		if err := r.lock(); err != nil {
			return err
		}
		return r.timeForking(ctx)
	}
	var locked atomic.Bool
	return par.Besides(func() error {
		defer locked.Store(true)
		return r.lock()
	}, func() error {
		if err := r.timeForking(ctx); err != nil {
			return err
		}
		r.files.begin(locked.Load)
		return nil
	})
}

// manyFlows is from how many on it takes longer to hold packets back than to wake another
// thread, which may take 4 ms.
const manyFlows = 1000

// timeForking is createTree with its time taken, for the statistics.
func (r *restore) timeForking(ctx context.Context) error {
	from := time.Now()
	err := r.createTree(ctx)
	r.forking = time.Since(from)
	return err
}

// startStub starts the process that the root is cloned from, with our memory
// in it and its end of the transport at the number that all tasks will have.
func (r *restore) startStub() (*live, error) {
	size := r.arenaSize()
	at, err := mem.Hole(r.tree.spaces(), size+stub.Size+arch.PageSize, lowestAddress)
	if err != nil {
		return nil, err
	}
	th, err := stub.Start(stub.Options{At: at, Socket: r.transport.theirs.Int(), Sibling: r.opts.Sibling, Suspend: r.tree.filtered()})
	if err != nil {
		return nil, err
	}
	l := &live{thread: th, threads: []*remote.Thread{th}, table: newFDTable(r.transport.number), insn: stub.Syscall(at), cgroups: r.cgroups.Own()}
	r.undo.Push("the stub process", func() error { return kill(l) })
	if l.arena, err = remote.MapArena(th, l.insn, at+stub.Size+arch.PageSize, size); err != nil {
		return nil, err
	}
	r.transport.theirs.Close()
	b := l.arena.Batch(th)
	b.Call("dup3", unix.SYS_DUP3, stub.Socket, uint64(r.transport.number), unix.O_CLOEXEC)
	// Whatever else it has is from who started the engine.
	b.Call("close_range", unix.SYS_CLOSE_RANGE, 0, uint64(r.transport.number)-1, 0)
	b.Call("close_range", unix.SYS_CLOSE_RANGE, uint64(r.transport.number)+1, math.MaxUint32, 0)
	resetSignals(b)
	if err := raiseLimits(b); err != nil {
		return nil, err
	}
	facets.Usual(b)
	if err := b.Run(); err != nil {
		return nil, err
	}
	l.arena.Reset()
	if err := facets.FreeCPUs(th.Tgid); err != nil {
		return nil, err
	}
	return l, r.enterTime(l)
}

// lowestAddress is below everything that programs map by themselves, and
// above vm.mmap_min_addr.
const lowestAddress = 0x10000

// resetSignals undoes what the engine inherited from whoever started it: an
// ignored signal stays ignored over exec.
func resetSignals(b *remote.Batch) {
	zero := b.U64(0, 0, 0, 0)
	for sig := uint64(1); sig <= linux.NSIG; sig++ {
		if sig != uint64(unix.SIGKILL) && sig != uint64(unix.SIGSTOP) {
			b.Call("rt_sigaction", unix.SYS_RT_SIGACTION, sig, uint64(zero), 0, linux.KernelSigsetSize)
		}
	}
}

// raiseLimits has soft limits of who started the engine be in nobody's way, until a task
// gets its own: memory may be more than they allow.
func raiseLimits(b *remote.Batch) error {
	for _, what := range []int{unix.RLIMIT_DATA, unix.RLIMIT_AS, unix.RLIMIT_MEMLOCK, unix.RLIMIT_SIGPENDING} {
		var l unix.Rlimit
		if err := unix.Getrlimit(what, &l); err != nil {
			return fmt.Errorf("getrlimit: %w", err)
		}
		b.Call("prlimit64", unix.SYS_PRLIMIT64, 0, uint64(what), uint64(b.U64(l.Max, l.Max)), 0)
	}
	return nil
}

// arenaSize estimates the room that the largest task's batches need; it is
// address space, of which only what is used costs memory.
func (r *restore) arenaSize() uint64 {
	size := uint64(0)
	for _, t := range r.tree.tasks {
		if t.zombie {
			continue
		}
		n := 512<<10 + t.space.BatchSize() + uint64(len(t.fds))*700 + uint64(len(t.threads))*(8<<10) + uint64(len(t.children))*400
		size = max(size, n+t.room)
	}
	size += uint64(r.tree.watched) * 300
	return (size + arch.PageSize - 1) &^ (arch.PageSize - 1)
}

// clone has a live task clone a task of the tree. The child is stopped and
// traced from its first instruction on.
func (r *restore) clone(by *live, t *task, extra uint64) error {
	return r.cloneAll(by, []birthOrder{{t, t.pid, extra, exitSignal(extra)}})
}

// birthOrder says how a task is cloned.
type birthOrder struct {
	task          *task
	pid           uint32
	extra, signal uint64
}

// exitSignal is SIGCHLD, but for CLONE_PARENT, where the kernel takes the
// caller's own.
func exitSignal(flags uint64) uint64 {
	if flags&linux.CLONE_PARENT != 0 {
		return 0
	}
	return uint64(unix.SIGCHLD)
}

// cloneAll has a live task clone others, in one batch if no number is taken.
func (r *restore) cloneAll(by *live, orders []birthOrder) error {
	for _, o := range orders {
		if err := r.guard.Task(guardian.Task{PID: proc.PID(o.pid)}); err != nil {
			return err
		}
	}
	return whileGoing(aMoment(goingMost), func() (uint32, error) {
		n, err := r.cloneFirst(by, orders)
		orders = orders[n:]
		if !errors.Is(err, unix.EEXIST) {
			return 0, err
		}
		return orders[0].pid, fmt.Errorf("%v can't come back: %w", orders[0].task, err)
	})
}

// cloneFirst has a live task clone others as far as it comes, and returns how many that
// are. The error is EEXIST if the next one's number is taken.
func (r *restore) cloneFirst(by *live, orders []birthOrder) (n int, err error) {
	b := by.arena.Batch(by.thread)
	defer by.arena.Reset()
	calls := make([]remote.Call, len(orders))
	for i, o := range orders {
		args := linux.CloneArgs{Flags: linux.CLONE_PTRACE | o.extra, ExitSignal: o.signal, SetTidSize: 1}
		args.SetTid = uint64(b.Bytes(binary.LittleEndian.AppendUint32(nil, o.pid)))
		calls[i] = b.Call("clone3", unix.SYS_CLONE3, uint64(b.Bytes(args.Bytes())), linux.CloneArgsSize)
	}
	failed := b.Run()
	for i, o := range orders {
		pid, err := calls[i].Result()
		if errors.Is(err, unix.EEXIST) {
			return i, unix.EEXIST
		}
		if err != nil || pid == 0 {
			return i, fmt.Errorf("%v: %w", o.task, errors.Join(failed, err))
		}
		if err := r.adopt(by, o, proc.PID(pid)); err != nil {
			return i, err
		}
	}
	return len(orders), failed
}

// adopt takes charge of a process that was just cloned.
func (r *restore) adopt(by *live, o birthOrder, pid proc.PID) error {
	th := &remote.Thread{Tgid: pid, TID: proc.TID(pid)}
	th.SetSignal(cmp.Or(o.task.signal, unix.SIGURG)) // a helper has none
	l := &live{thread: th, threads: []*remote.Thread{th}, arena: by.arena.Inherit(pid), table: by.table.copy(), cgroups: by.cgroups}
	if o.extra&linux.CLONE_FILES != 0 {
		l.table = by.table
	}
	r.undo.Push(fmt.Sprint("process ", pid), func() error { return kill(l) })
	o.task.live = l
	return errors.Join(firstStop(th), r.enterCgroups(o.task, l))
}

// firstStop waits for the stop that an auto-attached child begins with.
func firstStop(th *remote.Thread) error {
	if _, err := tracee.WaitTrap(th.TID); err != nil {
		return fmt.Errorf("process %d just cloned: %w", th.TID, err)
	}
	var err error
	th.Regs, err = tracee.Regs(th.TID)
	return err
}

// kill ends a process that is not to stay and waits for its end: a traced
// thread stays a zombie until its tracer has seen it, the leader last. It does
// nothing the second time.
func kill(l *live) error {
	if l.gone {
		return nil
	}
	if err := unix.Kill(int(l.thread.Tgid), unix.SIGKILL); err != nil && err != unix.ESRCH {
		return fmt.Errorf("kill %d: %w", l.thread.Tgid, err)
	}
	for _, th := range slices.Backward(l.threads) {
		if err := tracee.AwaitDeath(th.TID); err != nil {
			return err
		}
	}
	l.gone = true
	return nil
}

// build makes a cloned task's memory, then its children. What has neither children nor
// a terminal may still be at it when build returns, unless it is to make rings: for that
// it opens a file, also in the table of who shares that and comes next.
func (r *restore) build(ctx context.Context, t *task, before *relay) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if t.zombie {
		return nil // dies when the rest of the tree is there
	}
	if err := r.layout(ctx, t, before); err != nil {
		return fmt.Errorf("%v: %w", t, err)
	}
	if m, _ := r.terminal(t); m == nil && t.childless() && !t.space.HasRings() {
		return nil
	}
	err := before.end()
	if err == nil {
		err = r.makeChildren(ctx, t, before)
	}
	if r.tree.shelf != nil && !t.childless() {
		err = errors.Join(err, before.end()) // the last of them may need to know of it
		t.space.Made()
	}
	return err
}

// childless tells whether a task clones nobody.
func (t *task) childless() bool {
	return len(t.birth.early)+len(t.birth.late)+len(t.birth.juniors) == 0
}

// makeChildren makes a task's children, and its session between them.
func (r *restore) makeChildren(ctx context.Context, t *task, before *relay) error {
	if err := r.cloneJuniors(ctx, t, before); err != nil {
		return err
	}
	if len(t.birth.early) > 0 {
		if err := r.cloneChildren(ctx, t, t.birth.early, before); err != nil {
			return err
		}
	}
	if len(t.birth.early)+len(t.birth.juniors) > 0 {
		if err := before.end(); err != nil {
			return err
		}
		b := t.live.arena.Batch(t.live.thread)
		enterSession(b, t)
		if err := b.Run(); err != nil {
			return fmt.Errorf("%v: %w", t, err)
		}
		t.live.arena.Reset()
	}
	if len(t.birth.clones) == 0 {
		if err := r.takeTerminal(ctx, t); err != nil {
			return fmt.Errorf("%v: %w", t, err)
		}
	}
	return r.cloneChildren(ctx, t, t.birth.late, before)
}

// cloneChildren clones those children that need no helper in one go.
func (r *restore) cloneChildren(ctx context.Context, t *task, kids []*task, before *relay) error {
	helpers := map[uint32]*live{}
	var orders []birthOrder
	for _, c := range kids {
		if !c.birth.helper && c.birth.by == nil {
			orders = append(orders, birthOrder{c, c.pid, shared(c) | shared(c.birth.clones...), uint64(unix.SIGCHLD)})
		}
	}
	for some := range slices.Chunk(orders, clonesAtOnce) {
		if err := r.cloneAll(t.live, some); err != nil {
			return err
		}
	}
	for _, c := range kids {
		if err := r.cloneByHelper(t, c, helpers); err != nil {
			return err
		}
		if err := r.cloneBesides(ctx, c); err != nil {
			return fmt.Errorf("%v: %w", c, err)
		}
	}
	for _, c := range kids {
		if err := r.build(ctx, c, before); err != nil {
			return err
		}
	}
	return nil
}

// clonesAtOnce is how many children are cloned in one batch.
const clonesAtOnce = 256

// shared returns the clone flags for the tables that any of these tasks share with their
// parent.
func shared(tasks ...*task) (flags uint64) {
	for _, c := range tasks {
		if c.zombie {
			continue
		}
		if c.sharesFiles() {
			flags |= linux.CLONE_FILES
		}
		if c.sharesFS() {
			flags |= linux.CLONE_FS
		}
	}
	return flags
}

// enterSession queues what makes a task the leader of its session or group.
func enterSession(b *remote.Batch, t *task) {
	switch {
	case t.sid == t.pid:
		b.Call("setsid", unix.SYS_SETSID)
	case t.pgid == t.pid:
		b.Call("setpgid", unix.SYS_SETPGID, 0, 0)
	}
}
