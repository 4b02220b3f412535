package warm

import (
	"runtime/debug"
	"testing"
	"unsafe"
)

// Where a chunk of the heap ends the next one is found, too. Not each time: another thread
// of the runtime's may have taken what comes next, or a collection may have given some back.
func TestChunk(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	got := int64(0)
	for range 20 {
		if got = faultsAtTheEnd(t); got <= 16 { // the runtime has some of its own
			return
		}
	}
	t.Errorf("%d faults in %d bytes", got, count*16<<10)
}

// count is how many pieces of 16 KiB are taken where a chunk ends.
const count = 48

// faultsAtTheEnd counts the faults of what is taken where a chunk ends.
func faultsAtTheEnd(t *testing.T) int64 {
	t.Helper()
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
	var all [count][]byte
	return faults(t, func() {
		for i := range all {
			all[i] = fresh(16 << 10)
			all[i][0], all[i][8<<10] = 1, 1
		}
	})
}

//go:noinline
func fresh(n int) []byte { return make([]byte, n) }
