package standin

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/sockmem"
)

// process makes a pidfd of the same process.
func process(k *Maker, x *sockmem.Lone) (*fd.FD, error) {
	number, err := k.memory.Process(x.At)
	if err != nil {
		return nil, err
	}
	if number == 0 {
		return nil, unlike("it is a pidfd of a process that has ended, or has no number here")
	}
	n, err := unix.PidfdOpen(int(number), int(x.Flags)&(unix.PIDFD_THREAD|unix.PIDFD_NONBLOCK))
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) {
		return nil, unlike("it is a pidfd of a process that has ended")
	}
	if err != nil {
		return nil, fmt.Errorf("pidfd_open(%d): %w", number, err)
	}
	return fd.New(n), nil
}
