package guardian

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/arch"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/remote"
	"glis.dev/glis/internal/tracee"
)

// When an engine dies, its batches run to their ends and the threads go on by
// themselves. What stays in a task is one mapping, the arena. To take it away
// all threads of the task are stopped once more, when none is in it any more, nor
// about to map it: a thread may have been told to, and not have got a CPU yet. Nor may
// one come back to it: see remote.Thread.LeadsTo.

// errBusy says that a task can't be relieved yet.
var errBusy = errors.New("a thread still runs what the engine left, or is stopped in it (SIGCONT?)")

// unmapArenas takes the memory of the engine out of all tasks.
func (s *story) unmapArenas() error {
	return tracee.Run(func() error {
		const within = 10 * time.Second
		deadline := time.Now().Add(within)
		var errs []error
		for _, t := range s.tasks {
			if err := t.relieve(s.arenas[t.PID], deadline); err != nil && !errors.Is(err, proc.ErrGone) && !errors.Is(err, tracee.ErrGone) {
				errs = append(errs, fmt.Errorf("task %d: take the memory of the engine away: %w", t.PID, err))
			}
		}
		return errors.Join(errs...)
	})
}

// relieve takes the engine's memory out of one task, again and again until it
// is out or the time is over.
func (t Task) relieve(areas []area, deadline time.Time) error {
	for pause := 100 * time.Microsecond; ; pause = min(2*pause, 20*time.Millisecond) {
		err := t.tryRelieve(areas, deadline)
		busy := errors.Is(err, errBusy) || errors.Is(err, unix.EPERM) || errors.Is(err, remote.ErrOnItsWay)
		if !busy || time.Now().After(deadline) {
			return err
		}
		time.Sleep(pause)
	}
}

// leastTry is how long a task is tried with at least: other tasks may have taken all of the
// time.
const leastTry = 100 * time.Millisecond

func (t Task) tryRelieve(areas []area, deadline time.Time) error {
	dir, err := proc.Living(t.PID)
	if err != nil {
		return err
	}
	defer dir.Close()
	if there, err := t.there(); !there || len(areas) == 0 {
		return err
	}
	h := hold(t.PID, dir, max(leastTry, time.Until(deadline)))
	err = h.stop()
	if err == nil {
		err = h.unmap(areas)
	}
	return errors.Join(err, h.release())
}

// leftovers finds which of the areas are mapped, and nobody's else.
func leftovers(pid proc.PID, areas []area, vmas []proc.VMA) []*remote.Arena {
	var out []*remote.Arena
	for _, a := range areas {
		if i := slices.IndexFunc(vmas, func(v proc.VMA) bool { return v.Start <= a.base && v.End > a.base }); i >= 0 && a.isIn(vmas[i:]) {
			out = append(out, remote.ArenaAt(pid, remote.Addr(a.base), a.size))
		}
	}
	return out
}

// isIn tells whether an area is what is mapped first: memory that is writable and
// executable, or what remote.Arena is where that can't be.
func (a area) isIn(vmas []proc.VMA) bool {
	v := &vmas[0]
	if !anonymous(v) || v.Prot&unix.PROT_EXEC == 0 {
		return false
	}
	end := a.base + a.size
	if v.Prot&unix.PROT_WRITE != 0 {
		return v.End >= end
	}
	if v.Start != a.base || v.End == end {
		return v.Start == a.base
	}
	data := &vmas[min(1, len(vmas)-1)]
	return v.End-v.Start == arch.PageSize && data.Start == v.End && data.End == end && anonymous(data) && data.Prot == unix.PROT_READ|unix.PROT_WRITE
}

func anonymous(v *proc.VMA) bool { return v.Inode == 0 && !v.Shared && v.Name == "" }

// held is a task that the guardian has stopped.
type held struct {
	pid     proc.PID
	dir     *proc.Dir
	threads []*remote.Thread // that have stopped
	seizing *tracee.Seizing
	until   time.Time   // nothing is waited for any longer
	end     *time.Timer // of seizing
}

// hold begins to hold a task. To seize a thread beside one that executes a program may take
// as long as that, and some can't stop for now: neither is waited for longer than given.
func hold(pid proc.PID, dir *proc.Dir, most time.Duration) *held {
	h := &held{pid: pid, dir: dir, seizing: tracee.NewSeizing(), until: time.Now().Add(most)}
	h.end = time.AfterFunc(most, h.seizing.End)
	return h
}

// stop stops all threads of the task.
func (h *held) stop() error {
	seen := map[proc.TID]bool{}
	for {
		tids, err := h.dir.Threads()
		if err != nil {
			return err
		}
		fresh := 0
		for _, tid := range tids {
			if seen[tid] {
				continue
			}
			seen[tid] = true
			fresh++
			if err := h.stopOne(tid); err != nil && !errors.Is(err, tracee.ErrGone) {
				return err
			}
		}
		if fresh == 0 {
			return nil
		}
	}
}

func (h *held) stopOne(tid proc.TID) error {
	if st, err := h.dir.ThreadStat(tid); err == nil && st.State == 'Z' {
		return nil // it has ended, and the kernel does not let it be seized
	}
	err := h.seizing.Seize(tid, linux.PTRACE_O_TRACESYSGOOD|linux.PTRACE_O_SUSPEND_SECCOMP)
	if errors.Is(err, unix.EPERM) { // by the engine still, or no suspending for us
		err = h.seizing.Seize(tid, linux.PTRACE_O_TRACESYSGOOD)
	}
	if errors.Is(err, unix.EINTR) {
		return fmt.Errorf("another thread executes a program (execve(2)), which takes long: %w", err)
	}
	if err != nil {
		return err
	}
	if err := tracee.Interrupt(tid); err != nil {
		return err
	}
	if _, err := tracee.WaitTrapUntil(tid, h.late); err != nil {
		return err
	}
	th := &remote.Thread{Tgid: h.pid, TID: tid}
	h.threads = append(h.threads, th)
	if th.Regs, err = tracee.Regs(tid); err != nil {
		return err
	}
	if th.Mask, err = tracee.Sigmask(tid); err != nil {
		return err
	}
	return h.mend(th)
}

// late tells why nobody waits any longer for a thread to stop.
func (h *held) late() error {
	if time.Now().Before(h.until) {
		return nil
	}
	return fmt.Errorf("a thread waits in the kernel, and can't be stopped: %w", os.ErrDeadlineExceeded)
}

// mend prepares a thread to be gone on with, and to run something of ours.
func (h *held) mend(th *remote.Thread) error {
	st, err := h.dir.ThreadStatus(th.TID)
	if err != nil {
		return err
	}
	th.Mend((st.SigPnd|st.ShdPnd)&^th.Mask != 0)
	sig, err := remote.ChooseSignal(st.SigCgt, st.SigBlk, st.SigPnd|st.ShdPnd)
	if err != nil {
		return fmt.Errorf("%w: %w", errBusy, err)
	}
	th.SetSignal(sig)
	return nil
}

// unmap unmaps what is left by the first thread that may be used for it. The task's
// mappings are looked at when all of its threads stand, and none is on its way.
func (h *held) unmap(areas []area) error {
	vmas, err := h.dir.Maps()
	if err != nil || len(h.threads) == 0 {
		return err
	}
	left := leftovers(h.pid, areas, vmas)
	if len(left) == 0 {
		_, err := h.insn(h.threads[0], vmas)
		if errors.Is(err, remote.ErrOnItsWay) {
			return err
		}
		return nil
	}
	for _, th := range h.threads {
		for _, a := range left {
			if th.LeadsTo(a.Base(), a.Base()+remote.Addr(a.Size())) {
				return errBusy
			}
		}
	}
	th, err := h.usable()
	if err != nil {
		return err
	}
	insn, err := h.insn(th, vmas)
	if err != nil {
		return err
	}
	for _, a := range left {
		if err := a.Unmap(th, insn); err != nil {
			return err
		}
	}
	return nil
}

// usable returns a thread that is in no restartable sequence: a system call of
// ours would make the kernel forget it.
func (h *held) usable() (*remote.Thread, error) {
	const csAt = 8 // rseq.rseq_cs, include/uapi/linux/rseq.h
	for _, th := range h.threads {
		r, err := tracee.Rseq(th.TID)
		if err != nil {
			return nil, err
		}
		var cs [8]byte
		if r.Pointer == 0 {
			return th, nil
		}
		if err := th.Read(remote.Addr(r.Pointer+csAt), cs[:]); err != nil {
			return nil, err
		}
		if cs == [8]byte{} {
			return th, nil
		}
	}
	return nil, errBusy
}

// insn finds a system-call instruction of the task's own.
func (h *held) insn(th *remote.Thread, vmas []proc.VMA) (remote.Addr, error) {
	for i := range vmas {
		if v := &vmas[i]; v.Name == "[vdso]" {
			return remote.UseVdso(th, remote.Addr(v.Start), remote.Addr(v.End), h.threads...)
		}
	}
	for i := range vmas {
		v := &vmas[i]
		if v.Prot&unix.PROT_EXEC == 0 || v.Name == "[vsyscall]" {
			continue
		}
		if at, err := remote.FindSyscall(h.dir.PID(), remote.Addr(v.Start), remote.Addr(min(v.End, v.Start+1<<20))); err == nil {
			return at, nil
		}
	}
	return 0, errors.New("no system-call instruction in its code")
}

// release lets all threads go on.
func (h *held) release() error {
	h.end.Stop()
	var errs []error
	for _, th := range h.threads {
		if err := th.Release(); err != nil && !errors.Is(err, tracee.ErrGone) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
