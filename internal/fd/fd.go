// Package fd owns the engine's descriptors: each is closed once, and nothing
// here sets O_NONBLOCK, seeks or reads, because a descriptor borrowed from a
// task shares its open file description with it. ReadFile opens its own.
package fd

import (
	"fmt"
	"slices"
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

// CloseAll closes descriptors that nobody else uses any more, runs of numbers
// by one call each, see close_range(2) (Linux 5.9).
func CloseAll(all []*FD) {
	nums := make([]int, 0, len(all))
	for _, f := range all {
		if n := f.n.Swap(-1); n >= 0 {
			nums = append(nums, int(n))
		}
	}
	slices.Sort(nums)
	for len(nums) > 0 {
		end := 1
		for end < len(nums) && nums[end] == nums[0]+end {
			end++
		}
		_ = unix.CloseRange(uint(nums[0]), uint(nums[end-1]), 0) // fails for no number that is open
		nums = nums[end:]
	}
}

// Process opens a pidfd of a process, see pidfd_open(2). Where another pidfd of it has a lease
// (F_SETLEASE) this fails with EAGAIN: without PIDFD_NONBLOCK (Linux 5.10), which is for
// waitid(2) otherwise, it would wait for up to lease-break-time, whatever signals come.
func Process(number int) (*FD, error) { return pidfd(number, 0) }

// Task is Process, or for a thread that is not the first of its process (Linux 6.9).
func Task(number int) (*FD, error) {
	f, err := pidfd(number, 0)
	if err == unix.EINVAL || err == unix.ENOENT {
		return pidfd(number, unix.PIDFD_THREAD)
	}
	return f, err
}

func pidfd(number, flags int) (*FD, error) {
	n, err := unix.PidfdOpen(number, flags|unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, err
	}
	return New(n), nil
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

// Send sends descriptors over a unix socket, MaxRights per message. It does not wait for
// room, which only others could make: EAGAIN.
func Send(sock int, fds []int) error {
	for len(fds) > 0 {
		n := min(len(fds), MaxRights)
		if err := unix.Sendmsg(sock, []byte{0}, unix.UnixRights(fds[:n]...), nil, unix.MSG_DONTWAIT); err != nil {
			return fmt.Errorf("send %d descriptors: %w", n, err)
		}
		fds = fds[n:]
	}
	return nil
}
