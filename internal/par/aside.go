package par

import (
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Errand is something that is done once, by whoever comes first.
type Errand struct {
	f     func() error
	begun atomic.Bool
	err   error
	done  chan struct{} // closed when err is there
	ended atomic.Bool   // that done is closed
}

// Later returns what is done by who waits for it first.
func Later(f func() error) *Errand { return &Errand{f: f, done: make(chan struct{})} }

// CanAside tells whether there is a CPU for Aside, and a kernel that lets others go first
// there.
func CanAside() bool {
	_, ok := slice()
	return runtime.GOMAXPROCS(0) > 1 && ok
}

// Aside is Later, but another goroutine begins at once. Who wakes up on its CPU goes first,
// as a thread of the tree does that has something to do for the caller.
func Aside(f func() error) *Errand {
	a := Later(f)
	var apart Seats
	apart.Sit()
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		apart.Sit()
		defer patient()()
		a.run()
	}()
	apart.Spread()
	return a
}

func (a *Errand) run() {
	if a.begun.CompareAndSwap(false, true) {
		a.err = a.f()
		a.over()
	}
}

func (a *Errand) over() {
	a.ended.Store(true)
	close(a.done)
}

// End returns when nobody is at it any more; who has not begun won't.
func (a *Errand) End() {
	if a.begun.CompareAndSwap(false, true) {
		a.over()
	}
	<-a.done
}

// How long who waits stays on its CPU: to be woken may take as long as what is waited
// for, where the kernel wakes a thread on the CPU of who wakes it. But its goroutine keeps
// one of the places that there are for goroutines, so it is shorter where what is waited
// for may have none.
const (
	awake     = 2 * time.Millisecond
	awakeThen = 300 * time.Microsecond
)

// Wait returns when it is done, with its error: as often, and to as many, as one likes.
func (a *Errand) Wait() error { return a.after(awake) }

// after is Wait by who has had something else to do.
func (a *Errand) after(long time.Duration) error {
	a.run()
	stayAwake(long, a.ended.Load)
	<-a.done
	return a.err
}

// stayAwake returns when there is nothing to wait for any more, or after so long.
func stayAwake(long time.Duration, over func() bool) {
	for since := time.Now(); !over() && time.Since(since) < long; {
		_, _, _ = unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
	}
}
