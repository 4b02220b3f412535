package tracee

import (
	"encoding/binary"
	"errors"
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
//
// Should the tracer die in between, the process stops by that signal before any
// instruction of its own, but may have all signals blocked: see Unmask. It has its
// mask again before the kernel is told that somebody knows of the stop, and forgets the signal.
func Unbrake(pid proc.PID, mask uint64) error { return FetchStop(pid, proc.TID(pid), mask) }

// FetchStop is Unbrake by any thread. Whatever else waits for that is not fetched: let go with
// a signal then, it stops before it takes any other one.
func FetchStop(pid proc.PID, tid proc.TID, mask uint64) error {
	if err := Brake(pid); err != nil {
		return err
	}
	for {
		if err := SetSigmask(tid, AllSignals); err != nil {
			return err
		}
		if err := Cont(tid, 0); err != nil {
			return err
		}
		if err := awaitStop(tid); err != nil {
			return err
		}
		if err := SetSigmask(tid, mask); err != nil {
			return err
		}
		if over, err := brakeIsOff(tid); over || err != nil {
			return err
		}
	}
}

// AllSignals is the mask of a thread that blocks all it can.
const AllSignals = ^uint64(1<<(unix.SIGKILL-1) | 1<<(unix.SIGSTOP-1))

// awaitStop waits until a thread has stopped, and leaves the report of it. It makes the
// thread stop if nothing else does.
func awaitStop(tid proc.TID) error {
	const within = 100 * time.Millisecond
	for asked := time.Now(); ; {
		switch stopped, err := hasStopped(tid); {
		case stopped || err != nil:
			return err
		case time.Since(asked) > within:
			asked = time.Now()
			if err := Interrupt(tid); err != nil {
				return err
			}
		default:
			runtime.Gosched()
		}
	}
}

// brakeIsOff takes the report of a stop. It tells whether the SIGSTOP of the process has
// been fetched.
func brakeIsOff(tid proc.TID) (bool, error) {
	s, err := Wait(tid)
	switch {
	case err != nil:
		return false, err
	case s.Exited():
		return false, fmt.Errorf("thread %d: %v: %w", tid, s, ErrGone)
	case s.Event() == 0 && s.Signal() == unix.SIGSTOP:
		return true, nil
	}
	waits, err := waitsFor(tid, unix.SIGSTOP) // it was a trap of ptrace's own
	return !waits, err
}

// Unmask gives the first thread of a process, which is stopped here, its signal mask
// back if a tracer died in Unbrake: if it stands by SIGSTOP, or is about to, and has all
// signals blocked.
func Unmask(tid proc.TID, s Stop, mask uint64) error {
	stopped := s.Signal() == unix.SIGSTOP
	if !stopped {
		var err error
		if stopped, err = waitsFor(tid, unix.SIGSTOP); err != nil {
			return err
		}
	}
	now, err := Sigmask(tid)
	if err != nil || !stopped || now != AllSignals {
		return err
	}
	return SetSigmask(tid, mask)
}

// waitsFor tells whether a signal is queued for the process of a thread.
func waitsFor(tid proc.TID, sig unix.Signal) (bool, error) {
	asked := 0
	queue, err := Pending(tid, true, func() error {
		if asked++; asked > 3 {
			return errMany
		}
		return nil
	})
	if errors.Is(err, errMany) {
		return waitsAmong(tid, sig)
	}
	for i := range queue {
		if number := int32(binary.NativeEndian.Uint32(queue[i][:])); number == int32(sig) {
			return true, nil
		}
	}
	return false, err
}

// errMany says that more signals are queued than are looked at.
var errMany = errors.New("many signals are queued")

// waitsAmong is waitsFor where it takes long to look at all that are queued.
func waitsAmong(tid proc.TID, sig unix.Signal) (bool, error) {
	dir, err := proc.Open(proc.PID(tid))
	if err != nil {
		return false, err
	}
	status, err := dir.Status()
	return status.ShdPnd>>(sig-1)&1 != 0, errors.Join(err, dir.Close())
}
