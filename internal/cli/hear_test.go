package cli

import (
	"errors"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/arch"
	"glis.dev/glis/internal/linux"
)

// handled returns what signals do.
func handled(t *testing.T, all []syscall.Signal) (out actions) {
	t.Helper()
	for _, sig := range all {
		var a linux.Sigaction
		if err := (*linux.Sigaction)(nil).Set(sig, &a); err != nil {
			t.Fatal(err)
		}
		out = append(out, a)
	}
	return out
}

// TestHear: of several signals the first is told, once; afterwards they do what they did.
func TestHear(t *testing.T) {
	if arch.Tell(-1) == 0 {
		t.Skip("no handler of our own on this CPU")
	}
	all := []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP}
	before := handled(t, all)
	runtime.LockOSThread() // a thread has handled what it sends itself when it goes on
	defer runtime.UnlockOSThread()
	for _, sig := range all {
		came := make(chan os.Signal, 8)
		stop, err := hear(all, func(s os.Signal) { came <- s })
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range append([]syscall.Signal{sig}, all...) {
			if err := unix.Tgkill(os.Getpid(), unix.Gettid(), s); err != nil {
				t.Error(err)
			}
		}
		if first := stop(); first != sig || <-came != sig || len(came) != 0 {
			t.Errorf("%v came first, and %v is told, %d more", sig, first, len(came))
		}
		if now := handled(t, all); !slices.Equal(now, before) {
			t.Errorf("they are handled by %+v, and were by %+v", now, before)
		}
	}
}

// TestHearReleased: nothing is left of it, and a signal whose handler hadn't begun to tell of it
// when nobody was told any more does what it does by then.
func TestHearReleased(t *testing.T) {
	if arch.Tell(-1) == 0 {
		t.Skip("no handler of our own on this CPU")
	}
	all := []syscall.Signal{syscall.SIGHUP}
	open := func() int {
		dir, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(dir)
	}
	once := func() {
		stop, err := hear(all, func(os.Signal) {})
		if err != nil {
			t.Fatal(err)
		}
		stop()
	}
	once() // which makes what the runtime keeps
	fds, routines := open(), runtime.NumGoroutine()
	for range 100 {
		once()
	}
	for runtime.NumGoroutine() > routines {
		runtime.Gosched()
	}
	if now := open(); now != fds {
		t.Errorf("%d descriptors are open, and were %d", now, fds)
	}

	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	got := make(chan os.Signal, 1)
	signal.Notify(got, syscall.SIGHUP)
	defer signal.Stop(got)
	was, err := handle(all, -1)
	if err != nil {
		t.Fatal(err)
	}
	err = unix.Tgkill(os.Getpid(), unix.Gettid(), unix.SIGHUP) // our handler has it sent again and again
	if was.set(all); err != nil {
		t.Fatal(err)
	}
	if sig := <-got; sig != unix.SIGHUP {
		t.Errorf("%v came", sig)
	}
}

// TestHearNone: nothing came.
func TestHearNone(t *testing.T) {
	stop, err := hear([]syscall.Signal{syscall.SIGHUP}, func(s os.Signal) { t.Errorf("%v came", s) })
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip("no handler of our own on this CPU")
	}
	if err != nil {
		t.Fatal(err)
	}
	if first := stop(); first != nil {
		t.Errorf("%v is told", first)
	}
}

// TestHearBlocked: who was started with a signal blocked hears of it by the Go runtime,
// which has a thread for that.
func TestHearBlocked(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var set, was unix.Sigset_t
	set.Val[0] = 1 << (unix.SIGHUP - 1)
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, &set, &was); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.PthreadSigmask(unix.SIG_SETMASK, &was, nil) }()
	all := []syscall.Signal{syscall.SIGINT, syscall.SIGHUP}
	before := handled(t, all)
	if _, err := hear(all, func(os.Signal) {}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("%v", err)
	}
	if now := handled(t, all); !slices.Equal(now, before) {
		t.Errorf("they are handled by %+v, and were by %+v", now, before)
	}
}
