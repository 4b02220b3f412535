package standin

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/testkit"
)

// What a timer is set to, by what is left until it expires.
func TestTimerNext(t *testing.T) {
	for _, c := range []struct {
		name             string
		was              timerState
		left, now, value time.Duration
		ticks            uint64
	}{
		{name: "off", was: timerState{interval: 7}, left: -100},
		{name: "read", was: timerState{ticks: 0}, left: -100},
		{name: "once", was: timerState{ticks: 1, expired: true, running: true}, left: -100, ticks: 1},
		{name: "running", was: timerState{running: true}, left: 5, now: 100, value: 105},
		{name: "about to expire", was: timerState{running: true}, left: -5, value: 1},
		{name: "expired again", was: timerState{running: true, interval: 10, ticks: 3}, left: 5, value: 5, ticks: 3},
		{name: "just expired", was: timerState{running: true, expired: true, interval: 10, ticks: 1}, left: -9, value: 1, ticks: 1},
		{name: "expired long ago", was: timerState{running: true, expired: true, interval: 10, ticks: 1}, left: -25, now: 1000, value: 1005, ticks: 3},
	} {
		if value, ticks := c.was.next(c.left, c.now); value != c.value || ticks != c.ticks {
			t.Errorf("%s: set to %d with %d expirations, want %d and %d", c.name, value, ticks, c.value, c.ticks)
		}
	}
}

// A timer and a pidfd like others tell the same.
func TestTimerAndProcess(t *testing.T) {
	_, like := maker(t)
	n, err := unix.TimerfdCreate(unix.CLOCK_REALTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	must(t, err)
	defer unix.Close(n)
	var now unix.Timespec
	must(t, unix.ClockGettime(unix.CLOCK_REALTIME, &now))
	spec := &unix.ItimerSpec{Value: unix.NsecToTimespec(now.Nano() - 25*int64(time.Hour)), Interval: unix.NsecToTimespec(int64(10 * time.Hour))}
	must(t, unix.TimerfdSettime(n, unix.TFD_TIMER_ABSTIME|unix.TFD_TIMER_CANCEL_ON_SET, spec, nil))
	_, err = testkit.PollFds([]unix.PollFd{{Fd: int32(n), Events: unix.POLLIN}}, -1)
	must(t, err)
	own, err := like(n)
	must(t, err)
	p, err := unix.PidfdOpen(os.Getppid(), 0)
	must(t, err)
	defer unix.Close(p)
	same, err := like(p)
	must(t, err)
	for _, x := range [][2]int{{n, own}, {p, same}} {
		want, got := info(t, x[0]), info(t, x[1])
		if want != got {
			t.Errorf("it tells\n%s\nnot\n%s", got, want)
		}
	}
}

// info is what /proc tells of a descriptor, after what a timer has not counted yet was.
func info(t *testing.T, n int) string {
	t.Helper()
	var spec unix.ItimerSpec
	unix.TimerfdGettime(n, &spec) //nolint:errcheck // it may be a pidfd
	b, err := os.ReadFile("/proc/self/fdinfo/" + strconv.Itoa(n))
	must(t, err)
	text, _, _ := strings.Cut(string(b), "it_value: (")
	return text
}
