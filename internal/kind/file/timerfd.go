package file

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/criu/timerfd"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/scan"
)

// Timerfd is timerfd_create(2).
type Timerfd struct{}

// Type implements kind.File.
func (*Timerfd) Type() fdinfo.FdTypes { return fdinfo.FdTypes_TIMERFD }

// Match implements kind.File.
func (*Timerfd) Match(f *scan.File) bool { return f.Link == "anon_inode:[timerfd]" }

// Dump implements kind.File.
func (*Timerfd) Dump(_ context.Context, env *kind.DumpEnv, f *scan.File) (*fdinfo.FileEntry, error) {
	own, err := borrowOwner(env, f)
	if err != nil {
		return nil, err
	}
	t, err := settled(f)
	if err != nil {
		return nil, fmt.Errorf("%v: %w", f, err)
	}
	e := &timerfd.TimerfdEntry{
		Id: proto.Uint32(f.ID), Flags: proto.Uint32(f.Flags), Fown: own,
		Clockid: proto.Uint32(uint32(t.ClockID)), Ticks: proto.Uint64(t.Ticks), SettimeFlags: proto.Uint32(t.SettimeFlags),
		Vsec: proto.Uint64(t.Value / second), Vnsec: proto.Uint64(t.Value % second),
		Isec: proto.Uint64(t.Interval / second), Insec: proto.Uint64(t.Interval % second),
	}
	if t.SettimeFlags&unix.TFD_TIMER_ABSTIME != 0 && t.Value != 0 {
		now, err := env.Now(t.ClockID)
		if err != nil {
			return nil, fmt.Errorf("%v: %w", f, err)
		}
		putVarint(e, timerfdDeadline, now+t.Value)
	}
	return &fdinfo.FileEntry{Tfd: e}, nil
}

// second is in ns.
const second = 1_000_000_000

// settled reads a timer that has counted all that has expired. An interval
// timer waits, after it has expired once, for somebody to look at it:
// timerfd_gettime(2) makes it count what it missed, and go on.
func settled(f *scan.File) (*proc.Timerfd, error) {
	d, err := f.Borrow()
	if err != nil {
		return nil, err
	}
	defer d.Close()
	var now unix.ItimerSpec
	for range 10 {
		if err := unix.TimerfdGettime(d.Int(), &now); err != nil {
			return nil, fmt.Errorf("timerfd_gettime: %w", err)
		}
		info, err := f.Task.Dir.FDInfo(f.FD)
		switch {
		case err != nil:
			return nil, err
		case info.Timerfd == nil:
			return nil, fmt.Errorf("/proc/%d/fdinfo/%d tells no timer", f.Task.PID, f.FD)
		case info.Timerfd.Value != 0 || info.Timerfd.Interval == 0 || info.Timerfd.Ticks == 0:
			return info.Timerfd, nil
		}
		// It expired between the two looks.
	}
	return nil, kind.Unsupported(f, "its interval is so short that it expires again before it can be read; set a longer one")
}

// Plan implements kind.File.
func (*Timerfd) Plan(p *plan.Plan, e *fdinfo.FileEntry) error {
	in := e.GetTfd()
	if in == nil {
		return entryError(e, "a timerfd without its entry")
	}
	b, err := newBase(e, in.GetId(), in.GetFlags(), in.GetFown())
	if err != nil {
		return err
	}
	if err := checkTimer(in); err != nil {
		return entryError(e, "%v", err)
	}
	n := &timerfdNode{
		base: b, clock: int(in.GetClockid()), flags: in.GetSettimeFlags(), ticks: in.GetTicks(),
		left: in.GetVsec()*second + in.GetVnsec(), interval: in.GetIsec()*second + in.GetInsec(),
	}
	n.deadline, _, _ = extra(in, timerfdDeadline)
	if n.left == 0 && n.ticks != 0 {
		n.left = n.interval // CRIU writes an interval timer that has expired as it is, see settled
	}
	return p.Add(n)
}

// checkTimer refuses what no timerfd can be set to.
func checkTimer(e *timerfd.TimerfdEntry) error {
	deadline, _, _ := extra(e, timerfdDeadline)
	switch most := uint64(math.MaxInt64); {
	case e.GetVsec() >= most/second || e.GetIsec() >= most/second || e.GetVnsec() >= second || e.GetInsec() >= second || deadline > most:
		return fmt.Errorf("a timerfd with %d.%09d s left of an interval of %d.%09d s: it can't be", e.GetVsec(), e.GetVnsec(), e.GetIsec(), e.GetInsec())
	case e.GetSettimeFlags()&^uint32(unix.TFD_TIMER_ABSTIME|unix.TFD_TIMER_CANCEL_ON_SET) != 0:
		return fmt.Errorf("a timerfd that was set with flags %#x, which Glis does not know", e.GetSettimeFlags())
	}
	switch e.GetClockid() {
	case unix.CLOCK_REALTIME, unix.CLOCK_MONOTONIC, unix.CLOCK_BOOTTIME, unix.CLOCK_REALTIME_ALARM, unix.CLOCK_BOOTTIME_ALARM:
		return nil
	}
	return fmt.Errorf("a timerfd of clock %d: there is no such one", e.GetClockid())
}

type timerfdNode struct {
	base
	clock    int
	flags    uint32 // TFD_TIMER_*
	ticks    uint64 // expirations that nobody has read
	left     uint64 // ns until the next one, 0: it is off
	interval uint64 // ns
	deadline uint64 // ns on its clock, 0: not known, or it has none
}

// String implements plan.Node.
func (n *timerfdNode) String() string {
	return fmt.Sprintf("timerfd %#x: clock %d, %v left, every %v, expired %d times", n.id, n.clock, time.Duration(n.left), time.Duration(n.interval), n.ticks)
}

// Check implements plan.Checked.
func (n *timerfdNode) Check(env *plan.CheckEnv) error {
	if alarm := n.clock == unix.CLOCK_REALTIME_ALARM || n.clock == unix.CLOCK_BOOTTIME_ALARM; !alarm || env.Capable(unix.CAP_WAKE_ALARM) {
		return nil
	}
	return fmt.Errorf("timerfd %#x: it wakes the machine (clock %d), which needs CAP_WAKE_ALARM", n.id, n.clock)
}

// Create implements plan.Node.
func (n *timerfdNode) Create(_ context.Context, env *plan.Env) (*fd.FD, error) {
	if n.flags&unix.TFD_TIMER_ABSTIME != 0 && n.left != 0 && n.deadline == 0 {
		// CRIU does not tell when, only how much was left.
		now, err := env.Now(int32(n.clock))
		if err != nil {
			return nil, fmt.Errorf("timerfd %#x: %w", n.id, err)
		}
		n.deadline = now + n.left
	}
	num, err := unix.TimerfdCreate(n.clock, unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("timerfd %#x: %w", n.id, err)
	}
	return n.ready(fd.New(num))
}

// Finish implements plan.Member. A task sets the timer, since deadlines are
// times on its clocks, which may not be the engine's.
func (n *timerfdNode) Finish(b plan.Batcher, own int32) error {
	value, flags, ticks := n.start()
	at := b.Put(itimerspec(n.interval, value))
	b.Add(fmt.Sprintf("timerfd_settime(%d)", own), unix.SYS_TIMERFD_SETTIME, uint64(own), uint64(flags), at, 0)
	if ticks != 0 {
		at := b.Put(binary.NativeEndian.AppendUint64(nil, ticks))
		b.Add(fmt.Sprintf("ioctl(%d, TFD_IOC_SET_TICKS)", own), unix.SYS_IOCTL, uint64(own), linux.TFD_IOC_SET_TICKS, at)
	}
	return nil
}

// Common implements plan.Common.
func (n *timerfdNode) Common() {}

// start returns what to set the timer to, and how many expirations to add. An
// interval timer with a deadline begins where those were not counted yet: what
// expires meanwhile, as time goes on without the tree, is counted with them.
func (n *timerfdNode) start() (value uint64, flags uint32, ticks uint64) {
	if n.left == 0 {
		return 0, n.flags, n.ticks
	}
	if n.deadline == 0 {
		return n.left, n.flags, n.ticks
	}
	if n.interval == 0 || n.ticks == 0 || n.ticks >= n.deadline/n.interval {
		return n.deadline, n.flags, n.ticks
	}
	return n.deadline - n.ticks*n.interval, n.flags, 0
}

// itimerspec is the structure of timerfd_settime(2); times in ns.
func itimerspec(interval, value uint64) []byte {
	var b []byte
	for _, v := range []uint64{interval / second, interval % second, value / second, value % second} {
		b = binary.NativeEndian.AppendUint64(b, v)
	}
	return b
}
