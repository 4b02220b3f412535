package par

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// TestSeats: two that work beside each other get a CPU each, and may run everywhere
// afterwards.
func TestSeats(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before, after unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		t.Skip(err) // more CPUs than the set has room for
	}
	want := min(2, before.Count())
	got := 0
	for i := 0; i < 100 && got < want; i++ { // the kernel may move a thread back at any time
		var apart Seats
		apart.Sit()
		apart.Sit()
		got = apart.taken.Count()
	}
	if err := unix.SchedGetaffinity(0, &after); err != nil {
		t.Fatal(err)
	}
	if got != want || after != before {
		t.Errorf("%d CPUs instead of %d; may run on %v, before on %v", got, want, after, before)
	}
}
