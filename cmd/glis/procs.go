package main

import (
	"runtime"

	"glis.dev/glis/image"
	"glis.dev/glis/internal/proc"
)

// What is small enough for one CPU: to hand work to another takes longer than
// the work. A Go program on one CPU has one list of free memory, too, and half
// as many pages to find.
const (
	fewThreads = 4
	fewBytes   = 8 << 20 // of memory
	fewImages  = 40
)

// alone has the program use one CPU if the tree of a dump is small.
func alone(pid int) {
	if smallTree(proc.PID(pid)) {
		runtime.GOMAXPROCS(1)
	}
}

func smallTree(pid proc.PID) bool {
	dir, err := proc.Open(pid)
	if err != nil {
		return false
	}
	defer dir.Close() //nolint:errcheck // only read from
	st, err := dir.Status()
	if err != nil || st.Threads > fewThreads || st.RssAnon<<10 > fewBytes {
		return false
	}
	kids, err := dir.Children(proc.TID(pid))
	return err == nil && len(kids) == 0
}

// aloneFor is alone for a restore from the images in a directory.
func aloneFor(store *image.Dir) {
	names, err := store.List()
	if err == nil && len(names) <= fewImages {
		runtime.GOMAXPROCS(1)
	}
}
