package cli

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// interruptible is the function of that name, of which stop may be called more than once:
// later ones return nil. Run has it undone if the process does not end.
func (a *App) interruptible() (ctx context.Context, stop func() os.Signal) {
	pipe := signal.Ignored(syscall.SIGPIPE)
	ctx, first := interruptible()
	var once sync.Once
	stop = func() (sig os.Signal) {
		once.Do(func() { sig = first() })
		return sig
	}
	a.calm = func() os.Signal {
		if !pipe {
			// Go goes on to ignore one until somebody has asked for it.
			signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
			signal.Reset(syscall.SIGPIPE)
		}
		return stop()
	}
	return ctx, stop
}

// interruptible returns a context that ends when somebody stops the program,
// so that the engine takes back what it did. Signals that were ignored when
// the program started stay ignored, as nohup(1) wants it.
//
// After stop signals do what they do by default again. It returns the one that
// came before, nil if none: none is lost, not even one of the last instant. Who is
// about to end does without.
func interruptible() (ctx context.Context, stop func() os.Signal) {
	// A log reader that goes away is no reason to die in the middle.
	signal.Ignore(syscall.SIGPIPE)
	var stops []syscall.Signal
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		if !signal.Ignored(sig) {
			stops = append(stops, sig)
		}
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	if len(stops) == 0 {
		return ctx, func() os.Signal { cancel(nil); return nil }
	}
	came := func(sig os.Signal) { cancel(errors.New(sig.String() + " signal received")) }
	first, err := hear(stops, came)
	if err != nil {
		first = notify(stops, came)
	}
	return ctx, func() os.Signal {
		sig := first()
		cancel(nil)
		return sig
	}
}

// notify has came be called with the first of some signals. stop ends that, and returns
// the one that came. The Go runtime has a thread for it, and takes ten switches between
// threads for each signal, 0.1 ms.
func notify(stops []syscall.Signal, came func(os.Signal)) (stop func() os.Signal) {
	all := make([]os.Signal, 0, len(stops))
	for _, sig := range stops {
		all = append(all, sig)
	}
	heard := make(chan os.Signal, 1)
	signal.Notify(heard, all...)
	first := make(chan os.Signal, 1)
	go func() {
		sig, ok := <-heard
		if ok {
			came(sig)
		}
		first <- sig
	}()
	return func() os.Signal {
		signal.Stop(heard) // nothing is sent to it any more
		close(heard)
		sig := <-first
		first <- nil
		return sig
	}
}

// endBy ends the program by a signal, as if it had come now.
func endBy(sig os.Signal) {
	if s, ok := sig.(syscall.Signal); ok {
		_ = syscall.Kill(os.Getpid(), s) // never fails
	}
}
