package standin

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/sockmem"
)

func timerNames() []string {
	return []string{
		"timerfd_ctx", "timerfd_ctx.t", "timerfd_ctx.tintv", "timerfd_ctx.ticks", "timerfd_ctx.clockid", "timerfd_ctx.expired", "timerfd_ctx.settime_flags",
		"hrtimer.node", "hrtimer.state", "alarm.node", "alarm.state", "timerqueue_node.expires",
	}
}

// timerState is what a timerfd is set to.
type timerState struct {
	clock    int
	flags    int           // TFD_TIMER_*
	due      int64         // when it expires, in ns of a clock of the kernel's
	interval time.Duration // 0: it expires once
	ticks    uint64        // expirations that nobody has read
	running  bool          // due means something
	expired  bool          // it doesn't run, and ticks were counted up to due
}

// timerAt reads what a timerfd is set to. file is where the kernel has it.
func (k *Maker) timerAt(file kmem.Addr) (*timerState, error) {
	m := k.memory
	at, err := m.Private(file)
	if err != nil {
		return nil, err
	}
	s, err := m.Struct("timerfd_ctx", at)
	if err != nil {
		return nil, err
	}
	t := &timerState{
		clock: int(s.U32("timerfd_ctx.clockid")), flags: int(s.U16("timerfd_ctx.settime_flags")), ticks: uint64(s.Pointer("timerfd_ctx.ticks")),
		interval: time.Duration(s.Pointer("timerfd_ctx.tintv")), expired: s.U16("timerfd_ctx.expired") != 0,
	}
	node, state := "hrtimer.node", "hrtimer.state"
	if t.wakes() {
		node, state = "alarm.node", "alarm.state"
	}
	timer := s.In("timerfd_ctx.t")
	t.due = int64(timer.In(node).Pointer("timerqueue_node.expires"))
	t.running = timer.U8(state)&1 != 0 || t.expired
	return t, nil
}

// wakes tells whether the clock wakes the machine.
func (t *timerState) wakes() bool {
	return t.clock == unix.CLOCK_REALTIME_ALARM || t.clock == unix.CLOCK_BOOTTIME_ALARM
}

// timer makes a timerfd that expires when another one does.
func timer(k *Maker, x *sockmem.Lone) (*fd.FD, error) {
	was, err := k.timerAt(x.At)
	if err != nil {
		return nil, err
	}
	n, err := unix.TimerfdCreate(was.clock, unix.TFD_CLOEXEC|int(x.Flags)&unix.O_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("timerfd_create(%d): %w", was.clock, err)
	}
	own := fd.New(n)
	if err := k.setTimer(n, was); err != nil {
		return nil, errors.Join(err, own.Close())
	}
	return own, nil
}

// far is when a timer is set to that shows how the kernel counts its time.
const far = time.Hour

// setTimer sets a timer. The kernel's clocks are not shown; what a timer is set to is,
// as this one is set and as the kernel has it.
func (k *Maker) setTimer(own int, was *timerState) error {
	now, err := was.now()
	if err != nil {
		return err
	}
	if err := was.set(own, now+far); err != nil {
		return err
	}
	at, err := k.memory.File(own)
	if err != nil {
		return err
	}
	is, err := k.timerAt(at)
	if err != nil {
		return err
	}
	next, ticks := was.next(time.Duration(was.due-is.due)+far, now)
	if err := was.set(own, next); err != nil || ticks == 0 {
		return err
	}
	if err := linux.SetTicks(own, ticks); err != nil {
		return fmt.Errorf("set a timerfd to %d expirations: %w", ticks, err)
	}
	return nil
}

// now is what settime's value begins at: 0 for one that is set to what is left.
func (t *timerState) now() (time.Duration, error) {
	if t.flags&unix.TFD_TIMER_ABSTIME == 0 {
		return 0, nil
	}
	clock := map[int]int32{unix.CLOCK_REALTIME_ALARM: unix.CLOCK_REALTIME, unix.CLOCK_BOOTTIME_ALARM: unix.CLOCK_BOOTTIME}[t.clock]
	if !t.wakes() {
		clock = int32(t.clock)
	}
	var ts unix.Timespec
	if err := unix.ClockGettime(clock, &ts); err != nil {
		return 0, fmt.Errorf("read clock %d: %w", clock, err)
	}
	return time.Duration(ts.Nano()), nil
}

// next returns what a timer is to be set to, 0 for one that is off, and how often it has
// expired, if so much is left of the time until it expires.
func (t *timerState) next(left, now time.Duration) (value time.Duration, ticks uint64) {
	ticks = t.ticks
	switch {
	case !t.running, t.expired && t.interval == 0:
		return 0, ticks
	case t.expired: // those since are counted when somebody reads
		missed := max(-left, 0) / t.interval
		ticks += uint64(missed)
		left += (missed + 1) * t.interval
	}
	return max(now+left, 1), ticks
}

func (t *timerState) set(own int, value time.Duration) error {
	spec := &unix.ItimerSpec{Value: unix.NsecToTimespec(int64(value)), Interval: unix.NsecToTimespec(int64(t.interval))}
	if err := unix.TimerfdSettime(own, t.flags, spec, nil); err != nil {
		return fmt.Errorf("timerfd_settime: %w", err)
	}
	return nil
}
