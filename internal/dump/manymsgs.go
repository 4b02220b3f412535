package dump

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/arch"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/scan"
)

// recvmmsg(2) that has some of its messages returns those when its thread is stopped, and
// notes why as an error of the socket (do_recvmmsg() in net/socket.c): a number of the
// kernel's own, or EINTR if there is a limit of time. The next call would end with that,
// which nobody has caused but the stop.

// forgetStop takes that error from a socket. Another one, which the call has met by itself,
// stays. Where the kernel's memory doesn't tell which it is, it would be lost with it, which
// is said.
func (f *freezer) forgetStop(th *scan.Thread) error {
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
	if left, err := f.leftByStop(sock); !left || err != nil {
		return err
	}
	e, err := unix.GetsockoptInt(sock.Int(), unix.SOL_SOCKET, unix.SO_ERROR)
	switch {
	case err != nil, e == 0, ofStop(e):
		return nil //nolint:nilerr // no socket
	}
	return fmt.Errorf("%v: recvmmsg(2) at descriptor %d had met an error when its thread %d was stopped, which is not told by its next call now: %w", th.Task, n, th.TID, unix.Errno(e))
}

// ofStop tells whether an error of a socket is that of a stop.
func ofStop(e int) bool { return e == -arch.RestartSys || unix.Errno(e) == unix.EINTR }

// leftByStop tells whether a socket has such an error, as far as that can be told without
// taking it: SO_ERROR would take what is less than an error (sk_err_soft), too.
func (f *freezer) leftByStop(sock *fd.FD) (bool, error) {
	p := []unix.PollFd{{Fd: int32(sock.Int())}}
	for {
		_, err := unix.Poll(p, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || p[0].Revents&unix.POLLERR == 0 {
			return false, err
		}
		break
	}
	if f.errors == nil {
		f.errors = kmem.Share("sock.sk_err")
	}
	m, err := f.errors.Reader()
	if err != nil {
		return true, nil //nolint:nilerr // it can't be told
	}
	at, err := m.Sock(sock.Int())
	if err != nil {
		return true, nil //nolint:nilerr // it is no socket
	}
	var b [4]byte
	if err := m.ReadAt(b[:], at+m.Off("sock.sk_err")); err != nil {
		return true, nil //nolint:nilerr // likewise
	}
	return ofStop(int(binary.NativeEndian.Uint32(b[:]))), nil
}
