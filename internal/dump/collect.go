package dump

import (
	"bytes"
	"errors"
	"fmt"

	"glis.dev/glis/internal/arch"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/par"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/remote"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/tracee"
)

// collect reads what /proc and ptrace tell of every stopped task. Nothing runs
// in a task before its registers, its mask and its extended state are in hand.
func (d *dump) collect() error {
	if err := d.readBoth(); err != nil {
		return err
	}
	d.cgroups.Number(d.freezer.seized)
	for _, th := range d.freezer.seized {
		if err := errors.Join(d.ended(), d.prepareThread(th)); err != nil {
			return err
		}
	}
	for _, t := range d.tree.Tasks {
		d.filters.Join(t)
	}
	return d.firstArenas()
}

// readBoth reads /proc and asks ptrace. Few threads are not worth another goroutine, which
// would be in the way of those that look ahead.
func (d *dump) readBoth() error {
	if len(d.freezer.seized) > fewAsked {
		return par.Besides(d.readProc, d.readXStates)
	}
	if err := d.readProc(); err != nil {
		return err
	}
	return d.readXStates()
}

// readProc reads the files of /proc, of all tasks and threads at once.
func (d *dump) readProc() error {
	own, err := d.withRootTime()
	if err != nil {
		return err
	}
	tasks := d.tree.Tasks
	return d.parallel(len(tasks), func(i int) error {
		if err := d.readTask(tasks[i], own); err != nil {
			return kind.About(tasks[i], err)
		}
		return nil
	})
}

func (d *dump) readTask(t *scan.Task, own map[string]string) error {
	var err error
	if t.Status, err = t.Dir.Status(); err != nil {
		return err
	}
	numbers := t.Status.NSpid
	if t.Ended != nil {
		numbers = t.Ended.Status.NSpid
	}
	t.VPID = vpid(numbers, int32(t.PID))
	if err := usualExit(t); err != nil || t.Zombie {
		return err
	}
	if err := sameNamespaces(t, own); err != nil {
		return err
	}
	if err := errors.Join(d.apart(t, own, t.Alike), d.placeOf(t, t.Alike)); err != nil {
		return err
	}
	t.Leader().Status = &t.Status
	for _, th := range t.Threads {
		th.VTID = vpid(th.Numbers(), int32(th.TID))
	}
	if t.VMAs, err = d.vmas.VMAs(t.Dir); err == nil {
		d.packMappings(t)
	}
	return err
}

// readXStates reads what only ptrace tells.
//
// What was forked, and threads that were made by one, mostly have the same: one is kept of
// those in turn.
func (d *dump) readXStates() error {
	var last []byte
	for _, th := range d.freezer.seized {
		if err := d.ended(); err != nil {
			return err
		}
		state, err := tracee.XState(th.TID, d.xstate[:])
		if err != nil {
			return err
		}
		if trimmed := arch.TrimXState(state); bytes.Equal(trimmed, last) {
			th.XState = last // nobody writes to it
		} else {
			th.XState, last = trimmed, trimmed
		}
		if th.Rseq, err = tracee.Rseq(th.TID); err != nil {
			return err
		}
		if err := d.noPorts(th); err != nil {
			return err
		}
	}
	return nil
}

// noPorts refuses a thread that may use I/O ports.
func (d *dump) noPorts(th *scan.Thread) error {
	if !d.ports || th.Like != nil {
		return nil
	}
	any, err := tracee.Ports(th.TID)
	if err == nil && any {
		err = kind.Unsupported(fmt.Sprintf("thread %d", th.TID), "it uses I/O ports by itself (ioperm(2)), which cannot be saved; let it give them up (ioperm with turn_on 0 for all that it has), or end it")
	}
	return err
}

// vpid returns the innermost of the numbers that a task has.
func vpid(numbers []int32, own int32) scan.VPID {
	if len(numbers) == 0 {
		return scan.VPID(own)
	}
	return scan.VPID(numbers[len(numbers)-1])
}

// prepareThread makes a thread fit for batches, and its saved registers fit to
// be resumed from.
func (d *dump) prepareThread(th *scan.Thread) error {
	if d.freezer.noSuspend && th.Status.Seccomp != 0 {
		return kind.Unsupported(th.Task, "it has a seccomp filter, and Glis runs under one itself, so it can't suspend the target's; run Glis outside of the container")
	}
	if th.Like != nil {
		th.Filter = th.Like.Filter
	} else if err := d.lookAtCalls(th); err != nil {
		return err
	}
	s, err := remote.ChooseSignal(th.Status.SigCgt, th.Status.SigBlk, th.Status.SigPnd|th.Status.ShdPnd)
	if err != nil {
		return kind.Unsupported(th.Task, "%v", err)
	}
	th.SetSignal(s)
	if err := d.kinds.FixRseq(th); err != nil {
		return kind.About(th.Task, err)
	}
	return nil
}

// lookAtCalls finds out what becomes of a thread's system calls.
func (d *dump) lookAtCalls(th *scan.Thread) error {
	on, err := tracee.UserDispatch(th.TID)
	if err == nil && on {
		err = kind.Unsupported(th.Task, "its thread %d has its system calls dispatched to itself (PR_SET_SYSCALL_USER_DISPATCH), which cannot be saved yet", th.TID)
	}
	if err != nil || th.Status.Seccomp != linux.SECCOMP_MODE_FILTER {
		return err
	}
	filters, err := tracee.Filters(th.TID)
	if err == nil {
		th.Filter, err = d.filters.Add(th, filters)
	}
	return err
}

// namespaces that a task of the tree must share with the engine so far.
var namespaces = []string{"mnt", "pid", "user", "net", "ipc", "uts", "cgroup", "time"}

// ownNamespaces reads the engine's own namespaces, by name.
func (d *dump) ownNamespaces() error {
	self, err := proc.Open(proc.PID(d.self))
	if err != nil {
		return err
	}
	defer self.Close()
	d.own = map[string]string{}
	for _, ns := range namespaces {
		if d.own[ns], err = self.Link("ns/" + ns); err != nil {
			return err
		}
	}
	return nil
}

// withRootTime returns the namespaces that tasks must be in: the engine's, but
// for the root's time namespace. Only its clocks matter, and they come back.
func (d *dump) withRootTime() (map[string]string, error) {
	its, err := d.tree.Root.Dir.Link("ns/time")
	if err == nil && its != d.own["time"] {
		d.own["time"], d.ownTime = its, true
	}
	return d.own, err
}

// sameNamespaces refuses a task that lives in namespaces of its own.
func sameNamespaces(t *scan.Task, own map[string]string) error {
	for _, ns := range namespaces {
		its, err := t.Dir.Link("ns/" + ns)
		if err != nil {
			return err
		}
		if its != own[ns] {
			return kind.Unsupported(t, "it is in a %s namespace of its own (%s); run Glis in the same namespace", ns, its)
		}
	}
	return nil
}

// readPending reads the signals that are queued for a thread, and by its leader
// those for the process.
func (d *dump) readPending(th *scan.Thread) error { return readPending(th, d.ended) }

// readPending is the same until ended says that there is no more time.
func readPending(th *scan.Thread, ended func() error) error {
	var err error
	if th.Pending, err = tracee.Pending(th.TID, false, ended); err == nil && th == th.Task.Leader() {
		th.Shared, err = tracee.Pending(th.TID, true, ended)
	}
	if err != nil {
		return kind.About(th.Task, err)
	}
	return nil
}
