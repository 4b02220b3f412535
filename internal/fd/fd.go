// Package fd owns the engine's descriptors: each is closed once, and nothing
// here sets O_NONBLOCK, seeks or reads, because a descriptor borrowed from a
// task shares its open file description with it.
package fd

import (
	"fmt"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// FD is an open descriptor of the engine.
type FD struct{ n atomic.Int32 }

// New takes ownership of descriptor n.
func New(n int) *FD {
	f := &FD{}
	f.n.Store(int32(n))
	return f
}

// Int returns the number, for system calls. It is -1 after Close.
func (f *FD) Int() int { return int(f.n.Load()) }

// Close closes the descriptor; a second Close does nothing.
func (f *FD) Close() error {
	n := f.n.Swap(-1)
	if n < 0 {
		return nil
	}
	if err := unix.Close(int(n)); err != nil {
		return fmt.Errorf("close descriptor %d: %w", n, err)
	}
	return nil
}

// Borrow duplicates descriptor n of the process behind pidfd into the engine,
// see pidfd_getfd(2) (Linux 5.6). The duplicate shares the open file
// description: offset, flags, queues.
func Borrow(pidfd int, n int32) (*FD, error) {
	got, err := unix.PidfdGetfd(pidfd, int(n), 0)
	if err != nil {
		return nil, fmt.Errorf("borrow descriptor %d: %w", n, err)
	}
	return New(got), nil
}

// MaxRights is how many descriptors one SCM_RIGHTS message carries (SCM_MAX_FD).
const MaxRights = 253

// Send sends descriptors over a unix socket, MaxRights per message.
func Send(sock int, fds []int) error {
	for len(fds) > 0 {
		n := min(len(fds), MaxRights)
		if err := unix.Sendmsg(sock, []byte{0}, unix.UnixRights(fds[:n]...), nil, 0); err != nil {
			return fmt.Errorf("send %d descriptors: %w", n, err)
		}
		fds = fds[n:]
	}
	return nil
}
