package testkit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Patience is how long the kit waits for anything before it calls it hung. It
// is no assertion about speed: nothing measured comes near it, but for what runs
// beside others at the lowest priority (GLIS_PATIENCE=1h).
var Patience = patience()

func patience() time.Duration {
	if d, err := time.ParseDuration(os.Getenv("GLIS_PATIENCE")); err == nil && d > 0 {
		return d
	}
	return 60 * time.Second
}

// awaited are the inotify(7) events after which a condition is looked at again.
const awaited = unix.IN_CREATE | unix.IN_MODIFY | unix.IN_MOVED_TO | unix.IN_CLOSE_WRITE

// Await blocks until cond holds. It looks again whenever something in dir
// changes, and fails the test when the process pid ends first (0 for none) or
// Patience runs out.
func Await(t testing.TB, dir string, pid int, what string, cond func() bool) {
	t.Helper()
	failed := func() bool { return targetError(dir) != "" }
	err := await(dir, pid, func() bool { return failed() || cond() })
	if err == nil && failed() && !cond() {
		err = errors.New("the target failed")
	}
	if err != nil {
		t.Fatalf("waiting for %s: %v%s", what, err, targetError(dir))
	}
}

func await(dir string, pid int, cond func() bool) error {
	ino, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return fmt.Errorf("inotify_init1: %w", err)
	}
	defer unix.Close(ino)
	if _, err := unix.InotifyAddWatch(ino, dir, awaited); err != nil {
		return fmt.Errorf("inotify_add_watch %s: %w", dir, err)
	}
	fds := []unix.PollFd{{Fd: int32(ino), Events: unix.POLLIN}}
	if pid != 0 {
		pfd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			return fmt.Errorf("process %d is gone: %w", pid, err)
		}
		defer unix.Close(pfd)
		fds = append(fds, unix.PollFd{Fd: int32(pfd), Events: unix.POLLIN})
	}
	return awaitLoop(fds, cond)
}

// awaitLoop looks at cond between events; fds[1], if there, is the pidfd.
func awaitLoop(fds []unix.PollFd, cond func() bool) error {
	end := time.Now().Add(Patience)
	buf := make([]byte, 4096)
	for !cond() {
		if len(fds) > 1 && fds[1].Revents != 0 {
			return errors.New("the process ended first")
		}
		if err := pollUntil(fds, end); err != nil {
			return err
		}
		// Events are only a reason to look again, whatever they say.
		if _, err := unix.Read(int(fds[0].Fd), buf); err != nil && err != unix.EAGAIN {
			return fmt.Errorf("read inotify: %w", err)
		}
	}
	return nil
}

// pollUntil polls until something is ready or the moment end has come.
func pollUntil(fds []unix.PollFd, end time.Time) error {
	for {
		left := time.Until(end)
		if left <= 0 {
			return fmt.Errorf("nothing for %s", Patience)
		}
		n, err := unix.Poll(fds, int(left.Milliseconds())+1)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return fmt.Errorf("poll: %w", err)
		case n > 0:
			return nil
		}
	}
}

// AwaitFile blocks until the file is there.
func AwaitFile(t testing.TB, path string, pid int) {
	t.Helper()
	Await(t, filepath.Dir(path), pid, path, func() bool {
		_, err := os.Stat(path)
		return err == nil
	})
}

// targetError returns what a target wrote down about its own failure.
func targetError(dir string) string {
	msg, err := os.ReadFile(filepath.Join(dir, "error"))
	if err != nil || len(msg) == 0 { // it is about to say it
		return ""
	}
	return "\ntarget says: " + string(msg)
}

// Poll waits for what no event tells, and looks again and again. It tells whether that
// came, and fails the test if not: from any goroutine, so the test goes on.
func Poll(t testing.TB, what string, so func() bool) bool {
	t.Helper()
	for end := time.Now().Add(Patience); !so(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Errorf("waiting for %s: nothing for %v", what, Patience)
			return false
		}
	}
	return true
}
