package dump

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	"glis.dev/glis/internal/arch"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/remote"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/tracee"
)

// A freeze that has to end leaves threads whose registers nobody has read. Those among
// them that were in a call which any stop ends go on with it, as far as there is time
// for that: it takes 7 µs for each of these, and 3 for others.

// mostUnread is how long that may take: enough for some four thousand threads in such a
// call. mostStill is how long it may take in all to let the tree go.
const (
	mostUnread = 25 * time.Millisecond
	mostStill  = 100 * time.Millisecond
)

// unreadUntil returns when that has to end, of more than a few threads: sooner if it takes
// long to let go of them, or the tree is to run by then.
func (f *freezer) unreadUntil() time.Time {
	end := time.Now().Add(min(mostUnread, mostStill-f.toLetGo))
	if last := f.end.Add(-f.toLetGo); !f.end.IsZero() && last.Before(end) {
		return last
	}
	return end
}

// mendUnread is mend for threads whose registers were not read.
func (f *freezer) mendUnread(end time.Time) error {
	var unread []*scan.Thread
	for _, th := range f.seized {
		if arch.IP(&th.Regs) == 0 {
			unread = append(unread, th)
		}
	}
	var errs []error
	known := map[*scan.Task]*proc.Status{}
	for i, th := range unread {
		if i >= fewUnread && time.Now().After(end) {
			break
		}
		errs = append(errs, f.mendOne(th, known, end))
	}
	return errors.Join(errs...)
}

// fewUnread is for how many threads it is done in any case: that takes less than a
// millisecond.
const fewUnread = 64

// mendOne is mendUnread for one thread. known is the statuses of tasks.
func (f *freezer) mendOne(th *scan.Thread, known map[*scan.Task]*proc.Status, end time.Time) error {
	late := func() error {
		if time.Now().After(end) {
			return context.DeadlineExceeded
		}
		return nil
	}
	if f.moving[th] {
		if _, err := tracee.WaitTrapUntil(th.TID, late); err != nil {
			return nil //nolint:nilerr // it is gone, or doesn't stop yet: thaw sees to it
		}
		delete(f.moving, th)
	}
	regs, err := tracee.Regs(th.TID)
	if err == nil {
		err = f.forgetStop(&scan.Thread{Thread: remote.Thread{Tgid: th.Tgid, TID: th.TID, Regs: regs}, Task: th.Task})
	}
	if err != nil || !arch.Native(&regs) || !remote.Again(&regs, false) {
		return alive(err)
	}
	if th.Mask, err = tracee.Sigmask(th.TID); err != nil {
		return alive(err)
	}
	waits, err := f.signalWaits(th, known, late)
	if errors.Is(err, proc.ErrGone) || errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	if err == nil {
		th.Regs = regs
		th.Mend(waits)
	}
	return alive(err)
}

// signalWaits tells whether a signal waits that a thread doesn't block. Its own ones are
// those that are queued, unless there may be some that had no room.
func (f *freezer) signalWaits(th *scan.Thread, known map[*scan.Task]*proc.Status, late func() error) (bool, error) {
	st := known[th.Task]
	if st == nil {
		s, err := th.Task.Dir.Status()
		if err != nil {
			return false, err
		}
		st, known[th.Task] = &s, &s
	}
	if st.ShdPnd&^th.Mask != 0 {
		return true, nil
	}
	if st.SigQ[0] >= st.SigQ[1] {
		s, err := th.Task.Dir.ThreadStatus(th.TID)
		return s.SigPnd&^th.Mask != 0, err
	}
	all, err := tracee.Pending(th.TID, false, late)
	for i := range all {
		if n := binary.NativeEndian.Uint32(all[i][:]); n > 0 && th.Mask>>(n-1)&1 == 0 {
			return true, err
		}
	}
	return false, err
}
