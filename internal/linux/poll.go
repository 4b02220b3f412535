package linux

import "golang.org/x/sys/unix"

// PollNow is poll(2) that does not wait, made again when a signal interrupts
// it: the Go runtime sends itself some.
func PollNow(fds []unix.PollFd) (int, error) {
	for {
		n, err := unix.Poll(fds, 0)
		if err != unix.EINTR {
			return n, err
		}
	}
}
