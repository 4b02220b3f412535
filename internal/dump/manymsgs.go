package dump

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/arch"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/scan"
)

// recvmmsg(2) that has some of its messages returns those when its thread is stopped, and
// notes why as an error of the socket (do_recvmmsg() in net/socket.c): a number of the
// kernel's own, or EINTR if there is a limit of time. The next call would end with that,
// which nobody has caused but the stop.

// forgetStop takes that error from a socket. No other one may be there: what the call has
// met by itself would be lost with it, which is said.
func forgetStop(th *scan.Thread) error {
	n, ok := arch.SomeMessages(&th.Regs)
	if !ok {
		return nil
	}
	pidfd, err := fd.Task(int(th.TID))
	if errors.Is(err, unix.EINVAL) {
		pidfd, err = fd.Task(int(th.Tgid)) // before Linux 6.9: mostly it has the same files
	}
	if err != nil {
		return alive(gone(err))
	}
	defer pidfd.Close()
	sock, err := fd.Borrow(pidfd.Int(), n)
	if err != nil {
		return nil //nolint:nilerr // it is closed, or the thread gone: nobody asks it
	}
	defer sock.Close()
	e, err := unix.GetsockoptInt(sock.Int(), unix.SOL_SOCKET, unix.SO_ERROR)
	switch {
	case err != nil, e == 0, e == -arch.RestartSys, unix.Errno(e) == unix.EINTR:
		return nil //nolint:nilerr // no socket
	}
	return fmt.Errorf("%v: recvmmsg(2) at descriptor %d had met an error when its thread %d was stopped, which is not told by its next call now: %w", th.Task, n, th.TID, unix.Errno(e))
}
