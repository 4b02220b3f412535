package remote

import (
	"bytes"
	"fmt"
	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/arch"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/tracee"
)

// Inject makes one system call in a stopped thread, at a system-call
// instruction of its own (or of the arena), in two stops. It is for what must
// happen before there is an arena, and for the arena's own end.
//
// A tracer that dies in between leaves the thread behind that instruction
// with foreign registers; batches have no such window, and neither has the
// call of a thread that has room for arch.Boot (UseVdso). What is injected
// without runs in tasks that die with their tracer, or whose vdso is full.
func (t *Thread) Inject(insn Addr, nr uintptr, args ...uint64) (int64, error) {
	if err := t.startInject(insn, nr, args); err != nil {
		return 0, err
	}
	return t.finishInject(nr)
}

func (t *Thread) startInject(insn Addr, nr uintptr, args []uint64) error {
	var a [6]uint64
	copy(a[:], args)
	r := t.Regs
	if t.boot != 0 && t.startBoot() {
		arch.SetCall(&r, uint64(t.boot), uint64(nr), a)
		if err := t.enter(&r); err != nil {
			return err
		}
		return t.cont()
	}
	arch.SetCall(&r, uint64(insn), uint64(nr), a)
	if err := t.enter(&r); err != nil {
		return err
	}
	return t.contSyscall()
}

func (t *Thread) finishInject(nr uintptr) (int64, error) {
	if t.booted {
		return t.finishBoot(nr)
	}
	if err := t.waitSyscall(); err != nil {
		return 0, fmt.Errorf("system call %d, entry: %w", nr, err)
	}
	if err := t.contSyscall(); err != nil {
		return 0, err
	}
	if err := t.waitSyscall(); err != nil {
		return 0, fmt.Errorf("system call %d, exit: %w", nr, err)
	}
	r, err := tracee.Regs(t.TID)
	if err != nil {
		return 0, err
	}
	return result(arch.Return(&r))
}

// result tells an error from what a system call returned.
func result(v int64) (int64, error) {
	if v < 0 && v > -4096 {
		return v, unix.Errno(-v)
	}
	return v, nil
}

// enter sets registers and mask for something of ours to run. The registers
// come first: what they lead to sets the thread's own mask at its end.
func (t *Thread) enter(r *arch.Regs) error {
	if err := t.settle(); err != nil {
		return err
	}
	if err := tracee.SetRegs(t.TID, r); err != nil {
		return err
	}
	if !t.entered {
		t.entered = true
		return tracee.SetSigmask(t.TID, t.batchMask())
	}
	return nil
}

func (t *Thread) waitSyscall() error {
	for {
		s, err := t.wait()
		switch {
		case err != nil:
			return err
		case s.Syscall():
			return nil
		case s.Exited():
			return fmt.Errorf("thread %d: %v: %w", t.TID, s, tracee.ErrGone)
		case !t.foreign(s):
			return fmt.Errorf("thread %d: unexpected %v", t.TID, s)
		}
		if err := t.contSyscall(); err != nil {
			return err
		}
	}
}

// foreign handles a stop that is not ours to wait for; false if it is one
// that must not happen.
func (t *Thread) foreign(s tracee.Stop) bool {
	switch {
	case s.Trap():
		return true
	case s.Event() == 0 && s.Signal() == unix.SIGSTOP:
		t.stopped = true
		return true
	case s.Event() == 0 && s.Signal() == t.signal:
		return true // ignored by the target anyway, see ChooseSignal
	}
	return false
}

// FindSyscall looks for a system-call instruction in [start,end) of a task,
// which should be its vdso: nothing of the target's text needs to change.
func FindSyscall(pid proc.PID, start, end Addr) (Addr, error) {
	_, insn, err := findSyscall(pid, start, end)
	return insn, err
}

// findSyscall is FindSyscall that returns what it has read, too.
func findSyscall(pid proc.PID, start, end Addr) (text []byte, insn Addr, err error) {
	const most = 1 << 20
	if end <= start || end-start > most {
		return nil, 0, fmt.Errorf("task %d: no code to look for a system-call instruction in", pid)
	}
	text = make([]byte, end-start)
	n, err := Read(pid, start, text)
	if err != nil {
		return nil, 0, fmt.Errorf("task %d: reading its vdso: %w", pid, err)
	}
	text = text[:n]
	i := bytes.Index(text, arch.SyscallInsn[:])
	if i < 0 {
		return nil, 0, fmt.Errorf("task %d: no system-call instruction at %#x-%#x", pid, start, end)
	}
	return text, start + Addr(i), nil
}
