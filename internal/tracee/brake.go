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

// awaitBrake waits for the stop by SIGSTOP, or makes the thread stop if there
// is none to wait for any more.
func awaitBrake(tid proc.TID) error {
	const within = 100 * time.Millisecond
	var asked time.Time // when we began to wait, or asked for a stop last
	for {
		s, ok, err := TryWait(tid)
		switch {
		case err != nil:
			return err
		case !ok && asked.IsZero():
			asked = time.Now()
		case !ok && time.Since(asked) > within:
			asked = time.Now()
			if err := Interrupt(tid); err != nil {
				return err
			}
		case !ok:
			runtime.Gosched()
		case s.Exited():
			return fmt.Errorf("thread %d: %v: %w", tid, s, ErrGone)
		case s.Event() == 0 && s.Signal() == unix.SIGSTOP:
			return nil
		default: // a trap of ptrace's own
			if waits, err := waitsFor(tid, unix.SIGSTOP); err != nil || !waits {
				return err
			}
			if err := Cont(tid, 0); err != nil {
				return err
			}
		}
	}
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
