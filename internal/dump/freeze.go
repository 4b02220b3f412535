package dump

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/arch"
	"glis.dev/glis/internal/cgroupfs"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/par"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/taskmem"
	"glis.dev/glis/internal/tracee"
)

// seizeOptions: syscall stops are told apart from SIGTRAP, a thread that has executed
// a program stops, under whatever number it was seized, and a seccomp
// filter of the target is suspended while we make it call what it never
// would (the kernel lifts that by itself should we die).
const seizeOptions = linux.PTRACE_O_TRACESYSGOOD | linux.PTRACE_O_TRACEEXEC | linux.PTRACE_O_SUSPEND_SECCOMP

// freezer stops a tree: every thread of every task, until nothing new
// appears.
type freezer struct {
	tree   *scan.Tree
	seized []*scan.Thread // in order, for thaw
	// scratch is what all tasks' files of /proc are read with.
	scratch proc.Scratch
	unread  proc.Status // of a thread whose status has not been read
	seen    map[proc.TID]bool
	moving  map[*scan.Thread]bool // asked to stop, and not known to have stopped
	// doubted are tasks of which a thread was gone, see sure.
	doubted map[*scan.Task]bool
	ctx     context.Context        // its end is the end of the freeze
	known   func(*scan.Task) error // is told of every task before it is touched
	// reading reads what /proc says of each thread that has stopped, while
	// others are still waited for.
	reading errgroup.Group
	// noSuspend is set when we may not suspend seccomp filters (we run under
	// one ourselves): tasks that have one must then be refused.
	noSuspend bool
	seizing   *tracee.Seizing
	held      *cgroupfs.Freezer // a cgroup to freeze meanwhile; may be nil
	threadsAt *taskmem.Reader   // nil: /proc tells of threads one by one
	// toLetGo is about how long it takes to let go of what was seized: as long, on
	// this machine and with all that runs there, as to seize it took.
	toLetGo time.Duration
	errors  *kmem.Shared // the kernel's memory, for those of sockets; nil: none was looked at
	end     time.Time    // by which the tree has to run again if it did not stop; zero: none
	spare   func() bool  // gives back descriptors that only save time, and tells whether there were any
}

// freeze stops the tree of task pid. Whatever happens, thaw lets go of what
// was seized so far.
func (f *freezer) freeze(ctx context.Context, pid proc.PID) error {
	f.ctx, f.seizing = ctx, tracee.NewSeizing()
	defer context.AfterFunc(ctx, f.seizing.End)()
	f.seen, f.moving, f.doubted = map[proc.TID]bool{}, map[*scan.Thread]bool{}, map[*scan.Task]bool{}
	f.reading.SetLimit(runtime.GOMAXPROCS(0))
	level, err := f.first(pid)
	if err != nil {
		return err
	}
	for {
		if err := f.levels(level); err != nil {
			return err
		}
		run, err := f.readOwn()
		if err != nil {
			return err
		}
		if len(run) == 0 {
			return errors.Join(f.readStatuses(), f.reading.Wait())
		}
		if level, err = f.again(run); err != nil {
			return err
		}
	}
}

// levels stops the tasks given, then their children, and so on.
func (f *freezer) levels(level []proc.PID) error {
	for len(level) > 0 {
		if err := f.ended(); err != nil {
			return err
		}
		tasks, err := f.add(level)
		if err != nil {
			return err
		}
		if err := f.stop(tasks); err != nil {
			return err
		}
		f.look()
		if level, err = f.newChildren(); err != nil {
			return err
		}
	}
	return nil
}

// first returns the tasks to begin with.
func (f *freezer) first(pid proc.PID) ([]proc.PID, error) {
	if f.held == nil {
		return []proc.PID{pid}, nil
	}
	return f.seizeHeld(pid)
}

// ended returns why the freeze must end before its time.
func (f *freezer) ended() error {
	if err := f.over(); err != nil {
		return fmt.Errorf("freeze: %w", err)
	}
	return nil
}

// add opens the tasks of one level of the tree.
func (f *freezer) add(pids []proc.PID) ([]*scan.Task, error) {
	var out []*scan.Task
	for i, pid := range pids {
		if err := f.ended(); err != nil {
			return nil, err
		}
		t, err := f.open(pid)
		if errors.Is(err, unix.EMFILE) && f.spare != nil && f.spare() {
			t, err = f.open(pid)
		}
		if errors.Is(err, unix.EMFILE) {
			return nil, noRoom(len(f.tree.Tasks)+len(pids)-i, err)
		}
		if errors.Is(err, proc.ErrGone) && f.tree.Root != nil {
			continue // a child that ended before it was stopped
		}
		if err != nil {
			return nil, err
		}
		out = append(out, t)
	}
	return out, nil
}

// perTask is how many descriptors Glis has of each process, and besides perDump.
const (
	perTask = 2
	perDump = 256
)

// noRoom says what to do where Glis may not have as many descriptors as a tree of so many
// processes, or more, needs.
func noRoom(processes int, err error) error {
	var l unix.Rlimit
	if e := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); e != nil {
		return errors.Join(err, e)
	}
	return fmt.Errorf("the tree has %d processes, if not more, and Glis has %d descriptors open of each: it needs %d, and may have %d (RLIMIT_NOFILE); raise its hard limit (ulimit -Hn): %w", processes, perTask, perTask*processes+perDump, l.Cur, err)
}

func (f *freezer) open(pid proc.PID) (*scan.Task, error) {
	dir, err := f.scratch.Open(pid)
	if err != nil {
		return nil, fmt.Errorf("task %d: %w", pid, err)
	}
	t := &scan.Task{PID: pid, Dir: dir}
	if t.Stat, err = f.stat(dir); err != nil {
		return nil, errors.Join(fmt.Errorf("task %d: %w", pid, err), dir.Close())
	}
	if err := openPidfd(t); err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	t.Zombie = t.Stat.State == 'Z' && t.Stat.NumThreads <= 1
	if t.Zombie && f.tree.Root == nil {
		return nil, errors.Join(fmt.Errorf("%v has ended meanwhile: there is nothing to dump", t), t.Pidfd.Close(), dir.Close())
	}
	if t.Parent = f.tree.Task(proc.PID(t.Stat.PPID)); f.tree.Root == nil {
		f.tree.Root, t.Parent = t, nil
	}
	if t.Parent != nil {
		t.Parent.Children = append(t.Parent.Children, t)
	}
	f.tree.Add(t)
	return t, f.known(t)
}

func gone(err error) error {
	if err == unix.ESRCH {
		return proc.ErrGone
	}
	return err
}

// stop seizes and stops all threads of these tasks, all at the same time,
// until their lists of threads have nothing new.
func (f *freezer) stop(tasks []*scan.Task) error {
	for {
		var fresh []*scan.Thread
		for _, t := range tasks {
			if err := f.ended(); err != nil {
				return err
			}
			th, err := f.seize(t)
			if err != nil {
				return err
			}
			fresh = append(fresh, th...)
		}
		if len(fresh) == 0 {
			lost, err := f.sure(tasks)
			if err != nil {
				return err
			}
			if !lost {
				return f.settled(tasks)
			}
		}
		for _, th := range fresh {
			if err := f.ended(); err != nil {
				return f.overtime(th)
			}
			if err := f.await(th); err != nil {
				return err
			}
		}
	}
}

// await waits until a thread that was asked to has stopped. One that ended
// instead is forgotten.
func (f *freezer) await(th *scan.Thread) error {
	s, err := tracee.WaitTrapUntil(th.TID, f.late(th))
	switch {
	case errors.Is(err, tracee.ErrGone):
		f.forget(th)
		return nil
	case err != nil:
		return err
	}
	delete(f.moving, th)
	if s.Signal() != unix.SIGTRAP { // the trap of a group stop names its signal
		th.Task.Stopped, th.Task.StopSig = true, s.Signal()
	}
	th.Task.Threads = append(th.Task.Threads, th)
	if !th.First() && f.threadsAt == nil {
		dir := th.Task.Dir
		f.reading.Go(func() (err error) {
			th.Status, err = readStatus(dir, th.TID)
			if errors.Is(err, proc.ErrGone) {
				return nil // whether it may be is seen in readOwn
			}
			return err
		})
	}
	return nil
}

// readOwn reads what a stopped thread resumes from. No thread of the tree runs
// anything of ours before. It returns the tasks of which one does not stand.
func (f *freezer) readOwn() (run []*scan.Task, err error) {
	for _, th := range f.seized {
		if err := f.ended(); err != nil {
			return nil, err
		}
		if th.Regs, err = tracee.Regs(th.TID); err == nil {
			th.Mask, err = tracee.Sigmask(th.TID)
		}
		if err == nil {
			err = f.forgetStop(th)
		}
		if errors.Is(err, tracee.ErrGone) {
			if !f.doubted[th.Task] {
				run = append(run, th.Task)
			}
			f.doubted[th.Task] = true
			continue
		}
		if err != nil {
			return nil, err
		}
		if !arch.Native(&th.Regs) {
			return nil, kind.Unsupported(th.Task, "thread %d is a 32-bit one", th.TID)
		}
	}
	return run, nil
}

// settled looks at tasks that are wholly stopped: they must have a leader.
func (f *freezer) settled(tasks []*scan.Task) error {
	for _, t := range tasks {
		if f.hasEnded(t) || t.Ended != nil {
			continue
		}
		st, err := f.stat(t.Dir)
		if errors.Is(err, proc.ErrGone) && f.mayLeave(t) {
			if err := f.leave(t); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return kind.About(t, err)
		}
		t.Stat = st
		if len(t.Threads) == 0 && t.Stat.State == 'Z' && t != f.tree.Root {
			t.Zombie = true // it ended while we were at it
			continue
		}
		if err := f.leaderFirst(t); err != nil {
			return err
		}
	}
	return nil
}

func (f *freezer) leaderFirst(t *scan.Task) error {
	for i, th := range t.Threads {
		if proc.PID(th.TID) == t.PID {
			t.Threads[0], t.Threads[i] = t.Threads[i], t.Threads[0]
			return nil
		}
	}
	if len(t.Threads) == 0 {
		return fmt.Errorf("%v has ended: %w", t, proc.ErrGone)
	}
	return errors.Join(f.reading.Wait(), withoutFirst(t)) // they read in the directory that is closed
}

// newChildren returns the children of stopped tasks that the tree lacks. A
// task that is stopped forks no more, but orphans may still come to it.
func (f *freezer) newChildren() ([]proc.PID, error) {
	lists := make([][]proc.PID, len(f.seized))
	err := par.Do(len(f.seized), func(i int) (err error) {
		th := f.seized[i]
		if err := f.ended(); err != nil || th.Seen != nil && th.Seen.Childless {
			return err
		}
		if lists[i], err = th.Task.Dir.Children(th.TID); err != nil {
			return kind.About(th.Task, err)
		}
		return nil
	})
	var out []proc.PID
	for _, kids := range lists {
		for _, k := range kids {
			if f.tree.Task(k) == nil {
				out = append(out, k)
			}
		}
	}
	return out, err
}
