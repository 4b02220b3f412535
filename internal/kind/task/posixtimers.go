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
	"glis.dev/glis/internal/remote"
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
	for i, t := range timers {
		if entries[i], err = timerEntry(q.Task, &t); err != nil {
			return nil, err
		}
	}
	first := min(len(entries), timersAtOnce)
	answer := askTimers(q.Batch, entries[:first])
	return func(c *core.CoreEntry) error {
		if err := errors.Join(answer(), askMoreTimers(q, entries[first:])); err != nil {
			return err
		}
		slices.SortFunc(entries, func(a, b *timer.PosixTimerEntry) int { return int(a.GetItId()) - int(b.GetItId()) })
		c.Tc.Timers.Posix = entries
		return nil
	}, nil
}

// timersAtOnce is how many timers a batch asks for: a task's arena has room for these
// beside all else.
const timersAtOnce = 256

// askTimers queues calls that ask how much is left of timers; what is returned reads the
// answers.
func askTimers(batch *remote.Batch, entries []*timer.PosixTimerEntry) func() error {
	at, _ := batch.Alloc(len(entries) * timespecs)
	for i, e := range entries {
		batch.Call("timer_gettime", unix.SYS_TIMER_GETTIME, uint64(e.GetItId()), uint64(at)+uint64(i)*timespecs)
	}
	return func() error {
		b, err := batch.Output(at, len(entries)*timespecs)
		if err != nil {
			return err
		}
		for i, e := range entries {
			for k, v := range []**uint64{&e.Isec, &e.Insec, &e.Vsec, &e.Vnsec} {
				*v = proto.Uint64(binary.NativeEndian.Uint64(b[i*timespecs+8*k:]))
			}
		}
		return nil
	}
}

// askMoreTimers asks for timers in batches of their own, behind the one of the question,
// which has run.
func askMoreTimers(q *kind.Question, entries []*timer.PosixTimerEntry) error {
	arena := q.Task.Arena
	defer arena.Rewind(arena.Top())
	for some := range slices.Chunk(entries, timersAtOnce) {
		if err := q.Env.Check(); err != nil {
			return err
		}
		top := arena.Top()
		b := arena.Batch(&q.Thread.Thread)
		answer := askTimers(b, some)
		if err := b.Run(); err != nil {
			return err
		}
		if err := answer(); err != nil {
			return err
		}
		arena.Rewind(top)
	}
	return nil
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
func (PosixTimers) Check(env *plan.CheckEnv, c *core.CoreEntry) error {
	next := uint64(0)
	timers := c.GetTc().GetTimers().GetPosix()
	for _, e := range timers {
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
	env.Calls(len(timers), timespecs)
	if len(timers) > 0 && !canNumber() {
		env.Calls(int(next), 0) // those that are left out are made and deleted
	} else {
		next = uint64(len(timers))
	}
	env.Calls(int(next), sigeventSize+16)
	return nil
}

// canNumber tells whether timers can be given a number (Linux 6.15).
func canNumber() bool {
	_, err := unix.PrctlRetInt(linux.PR_TIMER_CREATE_RESTORE_IDS, linux.PR_TIMER_CREATE_RESTORE_IDS_GET, 0, 0, 0)
	return !errors.Is(err, unix.EINVAL)
}

// Restore implements kind.Facet. They run from now on.
func (PosixTimers) Restore(r *kind.Redo) error {
	for _, e := range r.Leader.GetTc().GetTimers().GetPosix() {
		if e.GetVsec() != 0 || e.GetVnsec() != 0 {
			at := r.Batch.U64(e.GetIsec(), e.GetInsec(), e.GetVsec(), e.GetVnsec())
			r.Batch.Call("timer_settime", unix.SYS_TIMER_SETTIME, uint64(e.GetItId()), 0, uint64(at), 0)
		}
	}
	return nil
}

// MadeTimers makes the timers that PosixTimers sets: each has a signal that counts
// against RLIMIT_SIGPENDING, which the process may have lowered since, and some clocks
// (CLOCK_REALTIME_ALARM) take a privilege.
type MadeTimers struct{}

// Name implements kind.Facet.
func (MadeTimers) Name() string { return "POSIX timers, not yet set" }

// Dump implements kind.Facet: PosixTimers does.
func (MadeTimers) Dump(*kind.Question) (kind.Answer, error) { return nil, nil }

// Restore implements kind.Facet.
func (MadeTimers) Restore(r *kind.Redo) error {
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
