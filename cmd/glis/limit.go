package main

import (
	"runtime"
	"runtime/debug"
)

// memoryLimit is the size of the heap, in bytes, from which on garbage is
// collected all the time; with what else it needs the engine stays below 64 MiB,
// whatever the target's size. Below, Go collects when the heap has doubled, from 4 MiB on, and not
// at all for a small tree or if it has huge pages (beSmall, growHeap).
const memoryLimit = 48 << 20

// firstLimit is memoryLimit until something was collected for the first time: a tree of
// which all fits needs no collection at all, and what was found for it then is all that
// there will be.
const firstLimit = 54 << 20

// limitMemory has memory be limited by firstLimit, then memoryLimit.
func limitMemory() {
	debug.SetMemoryLimit(firstLimit)
	runtime.AddCleanup(new([16]byte), func(int) { debug.SetMemoryLimit(memoryLimit) }, 0)
}
