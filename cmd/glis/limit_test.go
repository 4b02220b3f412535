package main

import (
	"runtime"
	"runtime/debug"
	"testing"

	"glis.dev/glis/internal/testkit"
)

// The first limit is the larger one, until something was collected.
func TestLimitMemory(t *testing.T) {
	was := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(was)
	limitMemory()
	if n := debug.SetMemoryLimit(-1); n != firstLimit {
		t.Errorf("the limit is %d, not %d", n, firstLimit)
	}
	testkit.Poll(t, "a smaller limit", func() bool {
		runtime.GC()
		return debug.SetMemoryLimit(-1) == memoryLimit
	})
}
