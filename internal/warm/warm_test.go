package warm

import (
	"bytes"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// What was found needs no fault when it is written to, and has what it had.
func TestWritten(t *testing.T) {
	b, err := unix.Mmap(-1, 0, 64*os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(b) //nolint:errcheck // of a test
	b[5], b[len(b)-1] = 1, 2
	want := bytes.Clone(b)
	Written(b[3 : len(b)-3])
	Written(nil)
	if !bytes.Equal(b, want) {
		t.Error("the contents changed")
	}
	if n := faults(t, func() {
		for i := 0; i < len(b); i += os.Getpagesize() {
			b[i] = 7
		}
	}); n > 8 { // the runtime may have some of its own
		t.Errorf("%d faults in 64 pages", n)
	}
}

// faults counts those of f.
func faults(t *testing.T, f func()) int64 {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before, after unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &before); err != nil {
		t.Fatal(err)
	}
	f()
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &after); err != nil {
		t.Fatal(err)
	}
	return after.Minflt - before.Minflt
}

// Memory that the heap has not given out stays empty.
func TestHeap(t *testing.T) {
	Heap(1 << 20)
	Touch(1<<20, 1<<18)
	for range 200 {
		if b := make([]byte, 8<<10); !bytes.Equal(b, make([]byte, len(b))) {
			t.Fatal("fresh memory is not zero")
		}
	}
}

// TestMap: memory is empty, of the size that was asked for, needs no fault, and is
// given back.
func TestMap(t *testing.T) {
	for _, n := range []int{1, 100_000, huge/4 - 1, huge / 4, huge, huge + 1} {
		b, free, err := Map(n)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) != n || cap(b) != n || !bytes.Equal(b, make([]byte, n)) {
			t.Errorf("%d bytes with room for %d, %d were asked for, or they are not zero", len(b), cap(b), n)
		}
		if f := faults(t, func() {
			for i := 0; i < n; i += os.Getpagesize() {
				b[i] = 7
			}
		}); f > 8 { // the runtime may have some of its own
			t.Errorf("%d faults in %d bytes", f, n)
		}
		if err := free(); err != nil {
			t.Errorf("give back %d bytes: %v", n, err)
		}
	}
}
