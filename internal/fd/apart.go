package fd

import (
	"fmt"
	"math"
	"runtime"

	"golang.org/x/sys/unix"
)

// Watched is a file that an epoll file watches, by the number that it was added under.
type Watched struct {
	File   *FD
	Number int32
	Events uint32
	Data   uint64
}

// WatchAll adds files to an epoll file, each under its number: on a thread with a table
// of descriptors of its own, where nobody else uses those.
func WatchAll(epoll *FD, all []Watched) error {
	done := make(chan error, 1)
	go apart(done, func() error { return watchHere(epoll.Int(), all) })
	return <-done
}

// apart runs f on a thread that ends with it and has a table of descriptors of its own,
// of which nothing is left when f's error is sent. It is not the process's first thread, which does not end.
func apart(done chan<- error, f func() error) {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		again := make(chan struct{})
		go func() {
			defer close(again)
			apart(done, f)
		}()
		<-again
		runtime.UnlockOSThread()
		return
	}
	if err := unix.Unshare(unix.CLONE_FILES); err != nil {
		done <- fmt.Errorf("unshare(CLONE_FILES): %w", err)
		return
	}
	err := f()
	_ = unix.CloseRange(0, math.MaxUint32, 0) // else as soon as the thread has ended
	done <- err
}

// watchHere adds files in a table of descriptors that nobody else uses.
func watchHere(epoll int, all []Watched) error {
	above := epoll // no number of a member's
	for _, w := range all {
		above = max(above, int(w.Number))
	}
	copies := make([]int, 0, len(all)+1)
	add := func(n int) error {
		d, err := unix.FcntlInt(uintptr(n), unix.F_DUPFD_CLOEXEC, above+1)
		if err != nil {
			return fmt.Errorf("duplicate a descriptor above %d: %w", above, err)
		}
		copies = append(copies, d)
		return nil
	}
	if err := add(epoll); err != nil {
		return err
	}
	for _, w := range all {
		if err := add(w.File.Int()); err != nil {
			return err
		}
	}
	for i, w := range all {
		if err := unix.Dup3(copies[i+1], int(w.Number), unix.O_CLOEXEC); err != nil {
			return fmt.Errorf("dup3 to %d: %w", w.Number, err)
		}
		e := unix.EpollEvent{Events: w.Events, Fd: int32(w.Data), Pad: int32(w.Data >> 32)}
		if err := unix.EpollCtl(copies[0], unix.EPOLL_CTL_ADD, int(w.Number), &e); err != nil {
			return fmt.Errorf("epoll_ctl(ADD, %d): %w", w.Number, err)
		}
	}
	return nil
}
