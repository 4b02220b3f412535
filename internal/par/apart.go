package par

import (
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// Seats are the CPUs that goroutines have which work beside each other. The kernel wakes
// a thread on the CPU of who wakes it, unless it knows that others share a cache with
// that, and may take 20 ms to see that one stands idle. The zero value is ready.
type Seats struct {
	lock  sync.Mutex
	taken unix.CPUSet
}

// Sit has the caller's thread run on a CPU that no other one has taken, if there is one.
// Where it runs later is up to the kernel again.
func (s *Seats) Sit() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	s.lock.Lock()
	defer s.lock.Unlock()
	if cpu := here(); cpu >= 0 && s.taken.IsSet(cpu) {
		s.move()
	}
	if cpu := here(); cpu >= 0 {
		s.taken.Set(cpu)
	}
}

// Spread comes behind the beginning of goroutines that sit, who has sat down before: their
// threads may wait for the CPU of who woke them, where they have to have begun to leave it.
func (s *Seats) Spread() { _, _, _ = unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0) }

// move leaves the CPUs that are taken. It only spares time, so that an error to leave has
// no consequence; that the thread may run everywhere again is tried until it is so.
func (s *Seats) move() {
	var all unix.CPUSet
	if unix.SchedGetaffinity(0, &all) != nil {
		return
	}
	free := all
	for i := range free {
		free[i] &^= s.taken[i]
	}
	if free.Count() > 0 && unix.SchedSetaffinity(0, &free) == nil {
		for range tries {
			if unix.SchedSetaffinity(0, &all) == nil { // where it may be, not where it is
				return
			}
		}
	}
}

// Elsewhere has a thread that stands still go on on another CPU than the caller's, if there
// is one. It tells whether the thread may run there only, until somebody says otherwise.
func Elsewhere(tid int) bool {
	var free unix.CPUSet
	if unix.SchedGetaffinity(tid, &free) != nil {
		return false
	}
	if cpu := here(); cpu >= 0 {
		free.Clear(cpu)
	}
	return free.Count() > 0 && unix.SchedSetaffinity(tid, &free) == nil
}

// tries is how often the kernel may lack memory for a set of CPUs.
const tries = 10
