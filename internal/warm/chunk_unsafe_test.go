package warm

import (
	"runtime/debug"
	"testing"
	"unsafe"
)

// Where a chunk of the heap ends the next one is found, too.
func TestChunk(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	const n = 1 << 20
	for tries := 0; ; tries++ {
		at := uintptr(unsafe.Pointer(unsafe.SliceData(fresh(large))))
		if left := chunk - at%chunk; left < n/4 {
			break
		} else if tries == 1000 {
			t.Fatalf("the heap never comes near the end of a chunk: %#x", at)
		}
	}
	Touch(n, n/4)
	var all [48][]byte
	if got := faults(t, func() {
		for i := range all {
			all[i] = fresh(16 << 10)
			all[i][0], all[i][8<<10] = 1, 1
		}
	}); got > 16 { // the runtime has some of its own
		t.Errorf("%d faults in %d bytes", got, len(all)*16<<10)
	}
}

//go:noinline
func fresh(n int) []byte { return make([]byte, n) }
