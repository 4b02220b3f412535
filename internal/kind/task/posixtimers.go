package task

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	core "glis.dev/glis/image/criu/criu-core"
	"glis.dev/glis/image/criu/timer"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/scan"
)

// PosixTimers are the timers of timer_create(2), with their numbers. The kernel
// does not tell whether one was set to a time of day; it comes back with what
// was left.
type PosixTimers struct{}

// From include/uapi/asm-generic/siginfo.h.
const (
	sigevSignal   = 0
	sigevNone     = 1
	sigevThread   = 2
	sigevThreadID = 4
	sigeventSize  = 64
	timespecs     = 32 // size of struct itimerspec
	nanoPerSecond = 1_000_000_000
)

// Name implements kind.Facet.
func (PosixTimers) Name() string { return "POSIX timers" }

// Dump implements kind.Facet.
func (PosixTimers) Dump(q *kind.Question) (kind.Answer, error) {
	timers, err := q.Task.Dir.Timers()
	if err != nil {
		return nil, fmt.Errorf("%v: POSIX timers (the kernel needs CONFIG_CHECKPOINT_RESTORE): %w", q.Task, err)
	}
	if len(timers) == 0 {
		return nil, nil
	}
	entries := make([]*timer.PosixTimerEntry, len(timers))
	at, _ := q.Batch.Alloc(len(timers) * timespecs)
	for i, t := range timers {
		if entries[i], err = timerEntry(q.Task, &t); err != nil {
			return nil, err
		}
		q.Batch.Call("timer_gettime", unix.SYS_TIMER_GETTIME, uint64(t.ID), uint64(at)+uint64(i)*timespecs)
	}
	return func(c *core.CoreEntry) error {
		b, err := q.Batch.Output(at, len(timers)*timespecs)
		if err != nil {
			return err
		}
		for i, e := range entries {
			for k, v := range []**uint64{&e.Isec, &e.Insec, &e.Vsec, &e.Vnsec} {
				*v = proto.Uint64(binary.NativeEndian.Uint64(b[i*timespecs+8*k:]))
			}
		}
		slices.SortFunc(entries, func(a, b *timer.PosixTimerEntry) int { return int(a.GetItId()) - int(b.GetItId()) })
		c.Tc.Timers.Posix = entries
		return nil
	}, nil
}

// timerEntry is what /proc tells of a timer, as the image has it.
func timerEntry(task *scan.Task, t *proc.Timer) (*timer.PosixTimerEntry, error) {
	how := map[string]uint32{"signal": sigevSignal, "none": sigevNone, "thread": sigevThread}[t.Notify]
	e := &timer.PosixTimerEntry{
		ItId: proto.Uint32(uint32(t.ID)), ClockId: proto.Uint32(uint32(t.ClockID)), SiSigno: proto.Uint32(uint32(t.Signal)),
		SivalPtr: proto.Uint64(t.Value), Overrun: proto.Uint32(0),
	}
	if t.Thread {
		how |= sigevThreadID
		i := slices.IndexFunc(task.Threads, func(th *scan.Thread) bool { return int32(th.TID) == t.Target })
		if i < 0 {
			return nil, kind.Unsupported(fmt.Sprintf("%v, POSIX timer %d", task, t.ID), "its signals go to thread %d, which is gone; have the program delete it", t.Target)
		}
		e.NotifyThreadId = proto.Int32(int32(task.Threads[i].VTID))
	}
	e.ItSigevNotify = &how
	return e, nil
}

// mostSkipped is how many numbers may be left out between two timers where the
// kernel can't be asked for one.
const mostSkipped = 10_000

// Check implements kind.Checker.
func (PosixTimers) Check(_ *plan.CheckEnv, c *core.CoreEntry) error {
	next := uint64(0)
	for _, e := range c.GetTc().GetTimers().GetPosix() {
		id := uint64(e.GetItId())
		switch {
		case id < next || id > 1<<31-1:
			return fmt.Errorf("core image: POSIX timer %d comes behind one with number %d", id, next-1)
		case e.GetSiSigno() > linux.NSIG || e.GetItSigevNotify()&^(sigevNone|sigevThread|sigevThreadID) != 0:
			return fmt.Errorf("core image: POSIX timer %d with signal %d, notified by %d: it can't be", id, e.GetSiSigno(), e.GetItSigevNotify())
		case e.GetIsec() > 1<<62 || e.GetVsec() > 1<<62 || e.GetInsec() >= nanoPerSecond || e.GetVnsec() >= nanoPerSecond:
			return fmt.Errorf("core image: POSIX timer %d of %d.%09d s every %d.%09d s makes no sense", id, e.GetVsec(), e.GetVnsec(), e.GetIsec(), e.GetInsec())
		case id-next > mostSkipped && !canNumber():
			return fmt.Errorf("core image: POSIX timer %d, and the one before is %d: before Linux 6.15 numbers can't be chosen", id, int64(next)-1)
		}
		next = id + 1
	}
	return nil
}

// canNumber tells whether timers can be given a number (Linux 6.15).
func canNumber() bool {
	_, err := unix.PrctlRetInt(linux.PR_TIMER_CREATE_RESTORE_IDS, linux.PR_TIMER_CREATE_RESTORE_IDS_GET, 0, 0, 0)
	return !errors.Is(err, unix.EINVAL)
}

// Restore implements kind.Facet.
func (PosixTimers) Restore(r *kind.Redo) error {
	timers := r.Leader.GetTc().GetTimers().GetPosix()
	if len(timers) == 0 {
		return nil
	}
	choose := canNumber()
	prctl := func(arg uint64) {
		if choose {
			r.Batch.Call("prctl PR_TIMER_CREATE_RESTORE_IDS", unix.SYS_PRCTL, linux.PR_TIMER_CREATE_RESTORE_IDS, arg, 0, 0, 0)
		}
	}
	prctl(linux.PR_TIMER_CREATE_RESTORE_IDS_ON)
	next := uint32(0)
	for _, e := range timers {
		for ; !choose && next < e.GetItId(); next++ {
			createTimer(r, e, next)
			r.Batch.Call("timer_delete", unix.SYS_TIMER_DELETE, uint64(next))
		}
		createTimer(r, e, e.GetItId())
		next = e.GetItId() + 1
	}
	prctl(linux.PR_TIMER_CREATE_RESTORE_IDS_OFF)
	for _, e := range timers {
		if e.GetVsec() != 0 || e.GetVnsec() != 0 {
			at := r.Batch.U64(e.GetIsec(), e.GetInsec(), e.GetVsec(), e.GetVnsec())
			r.Batch.Call("timer_settime", unix.SYS_TIMER_SETTIME, uint64(e.GetItId()), 0, uint64(at), 0)
		}
	}
	return nil
}

// createTimer queues what makes a timer with this number: the next one, or one
// that is asked for.
func createTimer(r *kind.Redo, e *timer.PosixTimerEntry, id uint32) {
	b := make([]byte, sigeventSize)
	binary.NativeEndian.PutUint64(b, e.GetSivalPtr())
	binary.NativeEndian.PutUint32(b[8:], e.GetSiSigno())
	binary.NativeEndian.PutUint32(b[12:], e.GetItSigevNotify())
	binary.NativeEndian.PutUint32(b[16:], uint32(e.GetNotifyThreadId()))
	number := binary.NativeEndian.AppendUint32(nil, id)
	r.Batch.Call(fmt.Sprintf("timer_create %d", id), unix.SYS_TIMER_CREATE, uint64(int32(e.GetClockId())), uint64(r.Batch.Bytes(b)), uint64(r.Batch.Bytes(number)))
}
