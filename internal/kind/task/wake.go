package task

import (
	"errors"
	"fmt"

	core "glis.dev/glis/image/criu/criu-core"
	"glis.dev/glis/internal/arch"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/remote"
	"glis.dev/glis/internal/tracee"
)

// Wake is what a restored thread begins to run with.
type Wake struct {
	Regs   arch.Regs
	XState []byte // NT_X86_XSTATE, trimmed; nil: as a new thread has it
	Mask   uint64

	restart *restart // nil unless its rest of a sleep is known
	// At is where that rest is in the restored task, see Prepare; 0: there is none.
	At remote.Addr
}

// ReadWake reads it from a thread's core image and ReadExtra's answer.
func ReadWake(c *core.CoreEntry, x kind.Extra) (*Wake, error) {
	regs, xstate, err := arch.GetCore(c)
	if err != nil {
		return nil, err
	}
	w := &Wake{Regs: regs, XState: xstate, Mask: c.GetThreadCore().GetBlkSigset()}
	if c.GetThreadCore().BlkSigset == nil {
		w.Mask = c.GetTc().GetBlkSigset() // criu's place for a leader's
	}
	if extra, ok := x[extraXState]; ok {
		if w.XState, err = arch.AddXStateExtra(xstate, extra); err != nil {
			return nil, err
		}
	}
	r, err := getRestart(x)
	if err != nil || r == nil {
		return w, err
	}
	return w, w.unfold(r)
}

// unfold gives registers back the form in which the kernel decides how an
// interrupted call goes on.
func (w *Wake) unfold(r *restart) error {
	if r.Code == arch.RestartBlock {
		if _, _, ok := arch.SleepArgs(r.Nr); !ok {
			return fmt.Errorf("core image: extra state %q: system call %d does not sleep", extraRestart, r.Nr)
		}
		w.restart = r
		return nil
	}
	if !arch.AtCall(&w.Regs, r.Nr) {
		return fmt.Errorf("core image: extra state %q: call %d is not what the registers are about to do", extraRestart, r.Nr)
	}
	arch.SetInterrupted(&w.Regs, r.Nr, r.Code, true)
	return nil
}

// Prepare lays what Rearm needs into a batch of the thread. Call it while
// building the thread's last batch.
func (w *Wake) Prepare(b *remote.Batch) {
	if w.restart != nil {
		w.At = b.U64(uint64(w.restart.Rest.Sec), uint64(w.restart.Rest.Nsec))
	}
}

// Rearm gives a thread that was asleep back the kernel's restart block it had:
// it goes to sleep for the rest of its time and is stopped before it has
// slept. Then w.Regs are those of a thread interrupted like that. Call it for
// every thread when the batch given to Prepare has run, and before the
// registers are set; what else the thread still does must not sleep.
func Rearm(t *remote.Thread, arena *remote.Arena, w *Wake) error {
	if w.restart == nil {
		return nil
	}
	if err := w.sleep(t, arena); err != nil {
		return fmt.Errorf("thread %d: sleep for the rest of its time: %w", t.TID, err)
	}
	return nil
}

// sleep has the thread enter its interrupted call with the time that is left.
func (w *Wake) sleep(t *remote.Thread, arena *remote.Arena) error {
	if w.At == 0 {
		return errors.New("nothing was prepared")
	}
	args := arch.CallArgs(&w.Regs)
	request, rest, _ := arch.SleepArgs(w.restart.Nr)
	left, err := peek(t, args[rest])
	if err != nil {
		return err
	}
	args[request] = uint64(w.At)
	result, err := interrupted(t, arena.Syscall(), w.restart.Nr, args)
	if err != nil {
		return err
	}
	// The program's own arguments stay in its registers.
	if result != arch.RestartBlock {
		// No time was left, or the call can't be made here: what it says is
		// its result.
		arch.Finish(&w.Regs, result)
		return nil
	}
	arch.SetInterrupted(&w.Regs, w.restart.Nr, result, false)
	return remote.Write(proc.PID(t.TID), remote.Addr(args[rest]), left)
}

// peek reads the timespec at an address of the thread's; nil if it is 0.
func peek(t *remote.Thread, at uint64) ([]byte, error) {
	if at == 0 {
		return nil, nil
	}
	b := make([]byte, 16)
	return b, t.Read(remote.Addr(at), b)
}

// interrupted makes a stopped thread enter a system call and leave it at once,
// as if it was stopped while it slept.
func interrupted(t *remote.Thread, insn remote.Addr, nr uint64, args [6]uint64) (int64, error) {
	regs := t.Regs
	arch.SetCall(&regs, uint64(insn), nr, args)
	if err := tracee.SetRegs(t.TID, &regs); err != nil {
		return 0, err
	}
	if err := toSyscallStop(t); err != nil {
		return 0, err
	}
	// Now at the entry. The thread finds itself wanted as soon as it sleeps.
	if err := tracee.Interrupt(t.TID); err != nil {
		return 0, err
	}
	if err := toSyscallStop(t); err != nil {
		return 0, err
	}
	regs, err := tracee.Regs(t.TID)
	if err != nil {
		return 0, err
	}
	// The stop that was asked for is not to come: any other stop, such as this
	// one at the exit, takes its place.
	return arch.Return(&regs), nil
}

func toSyscallStop(t *remote.Thread) error {
	if err := tracee.ContSyscall(t.TID); err != nil {
		return err
	}
	s, err := tracee.Wait(t.TID)
	if err == nil && !s.Syscall() {
		err = fmt.Errorf("unexpected %v", s)
	}
	return err
}
