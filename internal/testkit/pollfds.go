package testkit

import (
	"time"

	"golang.org/x/sys/unix"
)

// PollFds is poll(2), which goes on after the signals that the Go runtime sends itself: they
// end it with EINTR, whatever is set for them. ms is how long it waits at most; negative: for
// as long as it takes.
func PollFds(fds []unix.PollFd, ms int) (int, error) {
	for end := time.Now().Add(time.Duration(ms) * time.Millisecond); ; {
		n, err := unix.Poll(fds, ms)
		if err != unix.EINTR {
			return n, err
		}
		if ms > 0 {
			ms = max(0, int(time.Until(end).Milliseconds()))
		}
	}
}
