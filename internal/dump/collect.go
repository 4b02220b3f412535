package dump

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/arch"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/par"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/remote"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/tracee"
)

// collect reads what /proc and ptrace tell of every stopped task. Nothing runs
// in a task before its registers, its mask and its extended state are in hand.
func (d *dump) collect() error {
	if err := par.Besides(d.readProc, d.readXStates); err != nil {
		return err
	}
	for _, th := range d.freezer.seized {
		if err := d.prepareThread(th); err != nil {
			return err
		}
	}
	return d.mapArenas()
}

// readProc reads the files of /proc, of all tasks and threads at once.
func (d *dump) readProc() error {
	if err := d.sameNamespaces(); err != nil {
		return err
	}
	tasks := d.tree.Tasks
	err := par.Do(len(tasks), func(i int) error {
		if err := readTask(tasks[i]); err != nil {
			return fmt.Errorf("%v: %w", tasks[i], err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	threads := d.freezer.seized
	return par.Do(len(threads), func(i int) error {
		if err := readThread(threads[i]); err != nil {
			return fmt.Errorf("%v: %w", threads[i].Task, err)
		}
		return nil
	})
}

func readTask(t *scan.Task) error {
	var err error
	if t.Status, err = t.Dir.Status(); err != nil {
		return err
	}
	t.VPID = vpid(t.Status.NSpid, int32(t.PID))
	if t.Zombie {
		return nil
	}
	t.VMAs, err = t.Dir.Smaps()
	return err
}

func readThread(th *scan.Thread) error {
	t := th.Task
	if th.Status = t.Status; th != t.Leader() {
		var err error
		if th.Status, err = t.Dir.ThreadStatus(th.TID); err != nil {
			return err
		}
	}
	th.VTID = vpid(th.Status.NSpid, int32(th.TID))
	return nil
}

// readXStates reads what only ptrace tells.
func (d *dump) readXStates() error {
	for _, th := range d.freezer.seized {
		state, err := tracee.XState(th.TID, d.xstate[:])
		if err != nil {
			return err
		}
		th.XState = slices.Clone(arch.TrimXState(state))
		if th.Rseq, err = tracee.Rseq(th.TID); err != nil {
			return err
		}
	}
	return nil
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
	s, err := remote.ChooseSignal(th.Status.SigCgt, th.Status.SigBlk, th.Status.SigPnd|th.Status.ShdPnd)
	if err != nil {
		return fmt.Errorf("%v: %w", th.Task, err)
	}
	th.SetSignal(s)
	if err := d.kinds.FixRseq(th); err != nil {
		return fmt.Errorf("%v: %w", th.Task, err)
	}
	return nil
}

// Room in a task's arena: what the leader is asked, and what each thread is
// asked with its frame.
const (
	arenaProcess = 192 << 10
	arenaThread  = 32 << 10
)

// mapArenas maps our memory into every task.
func (d *dump) mapArenas() error {
	for _, t := range d.tree.Tasks {
		if t.Zombie {
			continue
		}
		if err := mapArena(t); err != nil {
			return fmt.Errorf("%v: %w", t, err)
		}
	}
	return nil
}

func mapArena(t *scan.Task) error {
	insn, err := findInsn(t)
	if err != nil {
		return err
	}
	t.Insn = insn
	size := uint64(arenaProcess + min(len(t.Threads), atOnce)*arenaThread)
	t.Arena, err = remote.MapArena(&t.Leader().Thread, insn, 0, size)
	return err
}

// findInsn finds a system-call instruction: in the vdso, or else in any code
// that the task has mapped.
func findInsn(t *scan.Task) (remote.Addr, error) {
	var errs []error
	for _, name := range []string{"[vdso]", ""} {
		for i := range t.VMAs {
			v := &t.VMAs[i]
			if v.Prot&unix.PROT_EXEC == 0 || v.Name == "[vsyscall]" || name != "" && v.Name != name {
				continue
			}
			end := min(v.End, v.Start+1<<20)
			insn, err := remote.FindSyscall(t.PID, remote.Addr(v.Start), remote.Addr(end))
			if err == nil {
				return insn, nil
			}
			errs = append(errs, err)
		}
	}
	return 0, fmt.Errorf("no system-call instruction in its code: %w", errors.Join(errs...))
}

// namespaces that a task of the tree must share with the engine so far.
var namespaces = []string{"mnt", "pid", "user", "net", "ipc", "uts", "cgroup", "time"}

// sameNamespaces refuses tasks that live in namespaces of their own.
func (d *dump) sameNamespaces() error {
	self, err := proc.Open(proc.PID(d.self))
	if err != nil {
		return err
	}
	defer self.Close()
	for _, ns := range namespaces {
		own, err := self.Link("ns/" + ns)
		if err != nil {
			return err
		}
		for _, t := range d.tree.Tasks {
			if t.Zombie {
				continue
			}
			its, err := t.Dir.Link("ns/" + ns)
			if err != nil {
				return fmt.Errorf("%v: %w", t, err)
			}
			if ns == "time" && t == d.tree.Root && its != own {
				// Only its clocks matter, and they come back.
				own, d.ownTime = its, true
			}
			if its != own {
				return kind.Unsupported(t, "it is in a %s namespace of its own (%s); run Glis in the same namespace", ns, its)
			}
		}
	}
	return nil
}

// readPending reads the signals that are queued for a thread, and by its leader
// those for the process.
func (d *dump) readPending(th *scan.Thread) error {
	var err error
	if th.Pending, err = tracee.Pending(th.TID, false); err == nil && th == th.Task.Leader() {
		th.Shared, err = tracee.Pending(th.TID, true)
	}
	if err != nil {
		return fmt.Errorf("%v: %w", th.Task, err)
	}
	return nil
}
