package file

import (
	"encoding/binary"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/criu/pidfd"
	"glis.dev/glis/image/criu/signalfd"
	"glis.dev/glis/image/criu/timerfd"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/plan"

	"glis.dev/glis/internal/testkit"
)

func timerEntry(clock, flags uint32, ticks, left, interval, deadline uint64) *fdinfo.FileEntry {
	e := &timerfd.TimerfdEntry{
		Id: proto.Uint32(1), Flags: proto.Uint32(unix.O_RDWR), Fown: noOwner(), Clockid: &clock, Ticks: &ticks, SettimeFlags: &flags,
		Vsec: proto.Uint64(left / second), Vnsec: proto.Uint64(left % second), Isec: proto.Uint64(interval / second), Insec: proto.Uint64(interval % second),
	}
	if deadline != 0 {
		putVarint(e, timerfdDeadline, deadline)
	}
	return &fdinfo.FileEntry{Type: fdinfo.FdTypes_TIMERFD.Enum(), Id: proto.Uint32(1), Tfd: e}
}

func planOne(e *fdinfo.FileEntry) (*plan.Plan, error) {
	im := &images{}
	_ = im.Put(image.Files, e, nil)
	return planAll(im, nil)
}

// What a timer is set to.
func TestTimerStart(t *testing.T) {
	const abs = unix.TFD_TIMER_ABSTIME
	for _, c := range []struct {
		name                            string
		flags                           uint32
		ticks, left, interval, deadline uint64
		wantValue, wantTicks            uint64
		wantFlags                       uint32
	}{
		{name: "off"},
		{name: "expired", ticks: 1, wantTicks: 1},
		{name: "relative", left: 5, interval: 7, ticks: 3, wantValue: 5, wantTicks: 3},
		{name: "expired interval of criu's", interval: 7, ticks: 1, wantValue: 7, wantTicks: 1},
		{name: "deadline", flags: abs, left: 5, deadline: 1000, wantValue: 1000, wantFlags: abs},
		{name: "interval with a deadline", flags: abs, left: 5, interval: 10, ticks: 3, deadline: 1000, wantValue: 970, wantFlags: abs},
		{name: "more than there was time for", flags: abs, left: 5, interval: 10, ticks: 100, deadline: 1000, wantValue: 1000, wantTicks: 100, wantFlags: abs},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := planOne(timerEntry(unix.CLOCK_MONOTONIC, c.flags, c.ticks, c.left, c.interval, c.deadline))
			if err != nil {
				t.Fatal(err)
			}
			value, flags, ticks := p.Node(1).(*timerfdNode).start()
			if value != c.wantValue || flags != c.wantFlags || ticks != c.wantTicks {
				t.Errorf("%d, flags %d, %d ticks", value, flags, ticks)
			}
		})
	}
}

// An interval timer that nobody looks at counts on while it is read.
func TestTimerSettled(t *testing.T) {
	n, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC)
	own(t, n, err)
	spec := &unix.ItimerSpec{Value: unix.Timespec{Nsec: 1}, Interval: unix.Timespec{Sec: 1000}}
	if err := unix.TimerfdSettime(n, 0, spec, nil); err != nil {
		t.Fatal(err)
	}
	fds := []unix.PollFd{{Fd: int32(n), Events: unix.POLLIN}}
	if _, err := testkit.PollFds(fds, -1); err != nil {
		t.Fatal(err)
	}
	got, err := settled(self(t).add(n))
	if err != nil || got.Ticks != 1 || got.Value == 0 || got.Value > 1000*second || got.Interval != 1000*second {
		t.Fatalf("%+v, %v", got, err)
	}
	var b [8]byte
	if _, err := unix.Read(n, b[:]); err != nil || binary.NativeEndian.Uint64(b[:]) != 1 {
		t.Fatalf("the program reads %d, %v", b, err)
	}
}

func TestSignalfd(t *testing.T) {
	var set unix.Sigset_t
	set.Val[0] = 1<<(unix.SIGUSR1-1) | 1<<(unix.SIGURG-1)
	n, err := unix.Signalfd(-1, &set, unix.SFD_CLOEXEC|unix.SFD_NONBLOCK)
	own(t, n, err)
	g := self(t)
	f := g.add(n)
	made := g.roundTrip()
	if again := g.add(made[plan.ID(f.ID)].Int()); *again.Info().Sigmask != set.Val[0] || again.Flags != f.Flags {
		t.Errorf("%#x with flags %#o", *again.Info().Sigmask, again.Flags)
	}
}

func TestPidfdOutside(t *testing.T) {
	n, err := unix.PidfdOpen(os.Getppid(), 0)
	own(t, n, err)
	g := self(t)
	g.add(n)
	mustFail(t, g.dump(), "outside of the tree", "not supported")
}

func TestHostileTimers(t *testing.T) {
	for _, c := range []struct {
		want string
		e    *fdinfo.FileEntry
	}{
		{"clock 4", timerEntry(unix.CLOCK_MONOTONIC_RAW, 0, 0, 0, 0, 0)},
		{"flags 0x8", timerEntry(unix.CLOCK_MONOTONIC, 8, 0, 0, 0, 0)},
		{"it can't be", timerEntry(unix.CLOCK_MONOTONIC, 0, 0, 1<<63, 0, 0)},
		{"it can't be", timerEntry(unix.CLOCK_MONOTONIC, 1, 0, 1, 0, 1<<63)},
		{"without its entry", &fdinfo.FileEntry{Type: fdinfo.FdTypes_TIMERFD.Enum(), Id: proto.Uint32(1)}},
		{"without its entry", &fdinfo.FileEntry{Type: fdinfo.FdTypes_SIGNALFD.Enum(), Id: proto.Uint32(1)}},
		{"without its entry", &fdinfo.FileEntry{Type: fdinfo.FdTypes_PIDFD.Enum(), Id: proto.Uint32(1)}},
		{"it is called 0x2", &fdinfo.FileEntry{Type: fdinfo.FdTypes_SIGNALFD.Enum(), Id: proto.Uint32(1), Sgfd: &signalfd.SignalfdEntry{Id: proto.Uint32(2)}}},
		{"process 0", pidfdEntry(0, 0)},
		{"process 4194305", pidfdEntry(maxPID+1, 0)},
		{"ended with 0x137f", pidfdEntry(noPID, 0x137f)}, // stopped, not ended
		{"ended with 0xffff", pidfdEntry(noPID, 0xffff)}, // continued
	} {
		_, err := planOne(c.e)
		mustFail(t, err, c.want)
	}
}

func pidfdEntry(pid int32, status uint64) *fdinfo.FileEntry {
	e := &pidfd.PidfdEntry{Id: proto.Uint32(1), Ino: proto.Uint32(7), Flags: proto.Uint32(unix.O_RDWR), Nspid: &pid, Fown: noOwner()}
	putVarint(e, pidfdStatus, status)
	return &fdinfo.FileEntry{Type: fdinfo.FdTypes_PIDFD.Enum(), Id: proto.Uint32(1), Pidfd: e}
}
