package tracee

import (
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/proc"
)

// A stopped tracee runs on at once when its tracer dies. Where it must not, as
// something about it has to be put right first, a SIGSTOP is left waiting for
// it: the brake. It stops the process before any instruction of its own, and
// whoever puts things right sends SIGCONT. If the tracer lives, it takes the
// signal away again, and nobody hears of it.

// Brake leaves a SIGSTOP waiting for a process whose threads are all stopped.
// The kernel then forgets a SIGCONT that waits: see to it that none does.
func Brake(pid proc.PID) error { return brakeSignal(pid, unix.SIGSTOP) }

// LooseBrake exchanges the SIGSTOP for a SIGCONT, which can be blocked and
// fetched by the process itself, see sigtimedwait(2).
func LooseBrake(pid proc.PID) error { return brakeSignal(pid, unix.SIGCONT) }

func brakeSignal(pid proc.PID, sig unix.Signal) error {
	if err := unix.Kill(int(pid), sig); err != nil && err != unix.ESRCH {
		return fmt.Errorf("process %d: leave a signal %d: %w", pid, sig, err)
	}
	return nil
}

// Unbrake takes the SIGSTOP of a process away by its first thread, which is
// about to be let go and has the signal mask given afterwards. Should somebody
// send a SIGCONT just now, the thread runs already, for a moment.
func Unbrake(pid proc.PID, mask uint64) error {
	tid := proc.TID(pid)
	if err := SetSigmask(tid, ^uint64(0)); err != nil {
		return err
	}
	if err := Brake(pid); err != nil {
		return err
	}
	if err := Cont(tid, 0); err != nil {
		return err
	}
	if err := awaitBrake(tid); err != nil {
		return err
	}
	return SetSigmask(tid, mask)
}

// awaitBrake waits for the stop by SIGSTOP, or makes the thread stop.
func awaitBrake(tid proc.TID) error {
	const within = 100 * time.Millisecond
	for start, asked := time.Now(), false; ; {
		s, ok, err := TryWait(tid)
		switch {
		case err != nil:
			return err
		case !ok && !asked && time.Since(start) > within:
			asked = true
			if err := Interrupt(tid); err != nil {
				return err
			}
		case !ok:
			runtime.Gosched()
		case s.Exited():
			return fmt.Errorf("thread %d: %v: %w", tid, s, ErrGone)
		case s.Event() == 0 && s.Signal() == unix.SIGSTOP, asked && s.Trap():
			return nil
		default: // a trap of ptrace's own
			if err := Cont(tid, 0); err != nil {
				return err
			}
		}
	}
}
