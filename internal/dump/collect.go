package dump

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/arch"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/remote"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/tracee"
)

// collect reads what /proc and ptrace tell of every stopped task, and maps
// our memory into it. Nothing runs in a task before its registers, its mask
// and its extended state are in hand.
func (d *dump) collect() error {
	if err := d.sameNamespaces(); err != nil {
		return err
	}
	for _, t := range d.tree.Tasks {
		if err := d.readTask(t); err != nil {
			return fmt.Errorf("%v: %w", t, err)
		}
	}
	return nil
}

func (d *dump) readTask(t *scan.Task) error {
	var err error
	if t.Status, err = t.Dir.Status(); err != nil {
		return err
	}
	t.VPID = vpid(t.Status.NSpid, int32(t.PID))
	if t.Zombie {
		return nil
	}
	if t.VMAs, err = t.Dir.Smaps(); err != nil {
		return err
	}
	for _, th := range t.Threads {
		if err := d.readThread(th); err != nil {
			return err
		}
	}
	return d.mapArena(t)
}

// vpid returns the innermost of the numbers that a task has.
func vpid(numbers []int32, own int32) scan.VPID {
	if len(numbers) == 0 {
		return scan.VPID(own)
	}
	return scan.VPID(numbers[len(numbers)-1])
}

// readThread reads what only ptrace tells of a thread, and makes its saved
// registers fit to be resumed from.
func (d *dump) readThread(th *scan.Thread) error {
	t := th.Task
	var err error
	if th == t.Leader() {
		th.Status = t.Status
	} else if th.Status, err = t.Dir.ThreadStatus(th.TID); err != nil {
		return err
	}
	th.VTID = vpid(th.Status.NSpid, int32(th.TID))
	if d.freezer.noSuspend && th.Status.Seccomp != 0 {
		return kind.Unsupported(t, "it has a seccomp filter, and Glis runs under one itself, so it can't suspend the target's; run Glis outside of the container")
	}
	if th.XState, err = tracee.XState(th.TID, d.xstate[:]); err != nil {
		return err
	}
	th.XState = arch.TrimXState(th.XState)
	if th.Rseq, err = tracee.Rseq(th.TID); err != nil {
		return err
	}
	s, err := remote.ChooseSignal(t.Status.SigCgt, th.Status.SigBlk, th.Status.SigPnd|th.Status.ShdPnd)
	if err != nil {
		return err
	}
	th.SetSignal(s)
	return d.kinds.FixRseq(th)
}

// Room in a task's arena: what the leader is asked, and what each thread is
// asked with its frame.
const (
	arenaProcess = 192 << 10
	arenaThread  = 32 << 10
)

func (d *dump) mapArena(t *scan.Task) error {
	insn, err := findInsn(t)
	if err != nil {
		return err
	}
	t.Insn = insn
	size := uint64(arenaProcess + len(t.Threads)*arenaThread)
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

// readPending reads the queued signals. It comes late: signals may arrive as
// long as the tree is frozen.
func (d *dump) readPending() error {
	for _, t := range d.tree.Tasks {
		for i, th := range t.Threads {
			var err error
			if th.Pending, err = tracee.Pending(th.TID, false); err != nil {
				return fmt.Errorf("%v: %w", t, err)
			}
			if i == 0 {
				if th.Shared, err = tracee.Pending(th.TID, true); err != nil {
					return fmt.Errorf("%v: %w", t, err)
				}
			}
		}
	}
	return nil
}
