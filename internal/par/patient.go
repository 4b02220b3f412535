package par

import "golang.org/x/sys/unix"

// longSlice is the longest that the kernel takes, in nanoseconds.
const longSlice = 100_000_000

// slice returns how the caller's thread is scheduled, if the kernel tells its slice of time.
func slice() (unix.SchedAttr, bool) {
	a, err := unix.SchedGetAttr(0, 0)
	if err != nil {
		return unix.SchedAttr{}, false
	}
	return *a, a.Policy == unix.SCHED_NORMAL && a.Runtime != 0
}

// patient has the caller's thread, which must be locked to it, give its CPU to whoever
// wakes up there: the kernel (6.12) lets who has a shorter slice of time go first, as all
// others have. No time is lost to that where nobody wakes up. It returns what undoes it.
// See sched_setattr(2).
func patient() (undo func()) {
	before, ok := slice()
	long := before
	if long.Runtime = longSlice; !ok || unix.SchedSetAttr(0, &long, 0) != nil {
		return func() {}
	}
	return func() {
		for range tries {
			if unix.SchedSetAttr(0, &before, 0) == nil {
				return
			}
		}
	}
}
