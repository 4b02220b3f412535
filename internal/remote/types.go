// Package remote runs system calls in tasks that are stopped: many of them in
// one stop. What it says of a task (addresses, descriptor numbers) are types
// of their own, so that they can't be mixed up with the engine's.
package remote

import (
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/arch"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/tracee"
)

// Addr is an address in a task's memory.
type Addr uint64

// FD is a descriptor number in a task.
type FD int32

// Thread is a stopped thread whose state is in our hands. Regs and Mask are
// the thread's own, as they were when it stopped; they are what it resumes
// from, whatever ran in it meanwhile.
type Thread struct {
	Tgid   proc.PID
	TID    proc.TID
	Regs   arch.Regs
	Mask   uint64
	XState []byte // NT_X86_XSTATE, may be cut after its last component in use

	signal  unix.Signal // that ends batches, see ChooseSignal
	control Addr        // of this thread's arch.Control in the arena
	arena   *Arena      // that control lives in
	gen     int         // of the arena when control was laid down
	boot    Addr        // where UseVdso found room for arch.Boot, or 0
	booted  bool        // arch.Boot is there, or on its way out
	busy    bool        // it runs, or has stopped and nobody knows yet
	entered bool        // regs or mask were changed since the stop
	mended  bool        // Regs are others than it has
	stopped bool        // a SIGSTOP came while we were at it
}

// mm is the number by which the thread's memory is found: its own, as the first
// of its process may have ended.
func (t *Thread) mm() proc.PID { return proc.PID(t.TID) }

// Read copies from the thread's memory, all of buf or it fails.
func (t *Thread) Read(at Addr, buf []byte) error { return ReadFull(t.mm(), at, buf) }

// ChooseSignal picks the signal that ends the batches of a thread: one whose
// arrival does nothing should the tracer be gone, and that is not pending,
// since a batch must not eat a signal of the target's. caught, blocked and
// pending are masks with signal 1 in bit 0.
func ChooseSignal(caught, blocked, pending uint64) (unix.Signal, error) {
	candidates := []unix.Signal{unix.SIGURG, unix.SIGWINCH, unix.SIGCHLD}
	in := func(mask uint64, s unix.Signal) bool { return mask>>(uint(s)-1)&1 != 0 }
	for _, avoid := range []uint64{caught | blocked | pending, blocked | pending, pending} {
		for _, s := range candidates {
			if !in(avoid, s) {
				return s, nil
			}
		}
	}
	return 0, fmt.Errorf("SIGURG, SIGWINCH and SIGCHLD are all pending: no signal is left to stop the task with; let it handle one and try again")
}

// SetSignal says which signal ends batches of this thread.
func (t *Thread) SetSignal(s unix.Signal) { t.signal = s }

// batchMask blocks everything but the signal that ends batches.
func (t *Thread) batchMask() uint64 { return ^uint64(0) &^ (1 << (uint(t.signal) - 1)) }

// Restore puts the thread's own registers and mask back; it stays stopped.
//
// The registers come last: until then they lead through the end of a batch,
// which sets both by itself should we die. The other way round, a thread
// whose tracer dies in between goes on with nearly everything blocked.
func (t *Thread) Restore() error {
	if err := t.settle(); err != nil {
		return err
	}
	if t.entered {
		if err := tracee.SetSigmask(t.TID, t.Mask); err != nil {
			return err
		}
	}
	if t.entered || t.mended {
		if err := tracee.SetRegs(t.TID, &t.Regs); err != nil {
			return err
		}
	}
	t.entered, t.mended = false, false
	return nil
}

// cont lets the thread run.
func (t *Thread) cont() error { return t.run(tracee.Cont(t.TID, 0)) }

// contSyscall lets the thread run up to its next system call.
func (t *Thread) contSyscall() error { return t.run(tracee.ContSyscall(t.TID)) }

// run notes whether the thread runs. One that could not be told to stands
// still, and nobody may wait for it.
func (t *Thread) run(err error) error {
	t.busy = err == nil
	return err
}

// wait waits for the thread's next stop.
func (t *Thread) wait() (tracee.Stop, error) {
	s, err := tracee.Wait(t.TID)
	t.busy = err != nil
	return s, err
}

// settle waits until the thread stands still, should something that nobody
// waited for still be under way.
func (t *Thread) settle() error {
	if !t.busy {
		return nil
	}
	s, err := t.wait()
	if err != nil {
		return err
	}
	if s.Exited() {
		return fmt.Errorf("thread %d: %v in a batch: %w", t.TID, s, tracee.ErrGone)
	}
	t.stopped = t.stopped || s.Event() == 0 && s.Signal() == unix.SIGSTOP
	return nil
}

// WillStop tells whether a SIGSTOP came while the thread was in our hands.
// It has left the queue of signals.
func (t *Thread) WillStop() bool { return t.stopped }

// StopOnRelease makes Release leave the thread stopped by SIGSTOP.
func (t *Thread) StopOnRelease() { t.stopped = true }

// ForgetStop makes Release hand no SIGSTOP on: it was the engine's own.
func (t *Thread) ForgetStop() { t.stopped = false }

// Plain tells whether the thread has all that is its own, and gets no signal when it
// is let go: that can then be left to the end of its tracer.
func (t *Thread) Plain() bool { return !t.busy && !t.entered && !t.mended && !t.stopped }

// Release restores the thread and lets it go. A SIGSTOP that came meanwhile
// is handed on.
func (t *Thread) Release() error {
	if err := t.Restore(); err != nil {
		return err
	}
	sig := unix.Signal(0)
	if t.stopped {
		sig = unix.SIGSTOP
	}
	return tracee.Detach(t.TID, sig)
}

// Mend has a thread make the system call again that it left only because it
// was stopped, if that makes no difference. pending tells whether a signal
// waits that it does not block. Call it once for each stop.
func (t *Thread) Mend(pending bool) {
	if Again(&t.Regs, pending) {
		arch.Undecided(&t.Regs)
		t.mended = true
	}
}

// Again tells whether a call ended with EINTR only because we stopped it, and
// can be made again without any difference.
func Again(r *arch.Regs, pending bool) bool {
	nr, ok := arch.InSyscall(r)
	return ok && !pending && arch.Interrupted(r) && arch.Renewable(nr, arch.CallArgs(r))
}
