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
	wait := int(x.Flags) & unix.PIDFD_NONBLOCK
	n, err := unix.PidfdOpen(int(number), int(x.Flags)&unix.PIDFD_THREAD|unix.PIDFD_NONBLOCK)
	if errors.Is(err, unix.EAGAIN) {
		return nil, unlike("another pidfd of its process has a lease (F_SETLEASE)") // see fd.Process
	}
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) {
		return nil, unlike("it is a pidfd of a process that has ended")
	}
	if err != nil {
		return nil, fmt.Errorf("pidfd_open(%d): %w", number, err)
	}
	d := fd.New(n)
	if _, err := unix.FcntlInt(uintptr(n), unix.F_SETFL, wait); err != nil {
		return nil, errors.Join(fmt.Errorf("fcntl(F_SETFL): %w", err), d.Close())
	}
	return d, nil
}
