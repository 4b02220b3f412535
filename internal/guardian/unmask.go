package guardian

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/tracee"
)

// unmask gives the processes back which signals they block, that an engine was just
// taking the brakes off: it had their first threads block all. They stand, or are about to.
func (s *story) unmask() error {
	if len(s.masks) == 0 {
		return nil
	}
	return tracee.Run(func() error {
		deadline := time.Now().Add(within)
		var errs []error
		for pid, mask := range s.masks {
			if err := unmaskOne(pid, mask, deadline); err != nil && !errors.Is(err, proc.ErrGone) && !errors.Is(err, tracee.ErrGone) {
				errs = append(errs, fmt.Errorf("task %d: have it block the signals that it did: %w", pid, err))
			}
		}
		return errors.Join(errs...)
	})
}

// unmaskOne tries as long as the engine, which has not quite ended, traces the process.
func unmaskOne(pid proc.PID, mask uint64, deadline time.Time) error {
	dir, err := proc.Open(pid)
	if err != nil {
		return err
	}
	defer dir.Close()
	h := hold(pid, dir, max(leastTry, time.Until(deadline)))
	defer h.end.Stop()
	tid := proc.TID(pid)
	for {
		if st, err := dir.ThreadStat(tid); err == nil && st.State == 'Z' {
			return nil // it has ended, and the kernel does not let it be seized
		}
		err = h.seizing.Seize(tid, linux.PTRACE_O_TRACESYSGOOD)
		if !errors.Is(err, unix.EPERM) || h.late() != nil {
			break
		}
		time.Sleep(100 * time.Microsecond)
	}
	if err != nil {
		return err
	}
	if err := tracee.Interrupt(tid); err != nil {
		return err
	}
	stop, err := tracee.WaitTrapUntil(tid, h.late)
	if err != nil {
		return err
	}
	return errors.Join(tracee.Unmask(tid, stop, mask), tracee.Detach(tid, 0))
}
