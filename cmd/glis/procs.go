package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"

	"glis.dev/glis/internal/arch/start"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/warm"
)

// A tree is small if one CPU is enough for it: to hand work to another takes
// longer than the work. A Go program on one CPU has one list of free memory, too,
// and half as many pages to find.
const (
	fewThreads = 4
	fewBytes   = 8 << 20 // of memory
	fewFiles   = 48
)

// smallHeap is how much memory a dump or restore of a small tree takes, in bytes.
const smallHeap = 1 << 20

// readyFor makes this program ready to dump the tree of a process.
func (e engine) readyFor(pid int) {
	if smallTree(proc.PID(pid)) {
		beSmall()
	} else {
		e.useAll()
		growHeap()
	}
}

// readyForImages makes this program ready to restore from a directory.
func (e engine) readyForImages(dir string) {
	switch metadata, pages := imagesIn(dir); {
	case metadata >= manyEntries:
		e.useAll()
		growHeap()
	case pages <= fewBytes:
		beSmall()
	default:
		e.useAll()
	}
}

// beAlone has a dump or a restore begin on one CPU, and returns how many there
// were; 0: as many as are now. That many are small ones; and to let a CPU go takes
// 2 ms when it has a list of free memory already: that is spared if the program was
// linked to begin on one.
func beAlone(args []string) int {
	alone := slices.Contains(args, "dump") || slices.Contains(args, "restore")
	if os.Getenv("GOMAXPROCS") != start.One {
		if alone {
			return runtime.GOMAXPROCS(1)
		}
		return 0
	}
	_ = os.Unsetenv("GOMAXPROCS") // it is there
	if !alone {
		runtime.SetDefaultGOMAXPROCS()
		return 0
	}
	return unknown
}

// unknown is a number of CPUs: all that the Go runtime would use.
const unknown = -1

// useAll undoes beAlone.
func (e engine) useAll() {
	switch {
	case e.cpus == unknown:
		runtime.SetDefaultGOMAXPROCS()
	case e.cpus > 0:
		runtime.GOMAXPROCS(e.cpus)
	}
}

// beSmall has no garbage collected below the memory limit: a small tree makes little,
// and what was skipped to begin with (arch/start) would count.
func beSmall() {
	runtime.GOMAXPROCS(1)
	debug.SetGCPercent(-1)
	warm.Heap(smallHeap)
}

func smallTree(pid proc.PID) bool {
	dir, err := proc.Open(pid)
	if err != nil {
		return false
	}
	defer dir.Close() //nolint:errcheck // only read from
	st, err := dir.Status()
	if err != nil || st.Threads > fewThreads || st.RssAnon<<10 > fewBytes || openFiles(pid, st) > fewFiles {
		return false
	}
	kids, err := dir.Children(proc.TID(pid))
	return err == nil && len(kids) == 0
}

// openFiles is how many descriptors a process has, at most. Since Linux 6.2 their
// directory tells.
func openFiles(pid proc.PID, st proc.Status) int64 {
	if info, err := os.Stat(fmt.Sprintf("/proc/%d/fd", pid)); err == nil && info.Size() > 0 {
		return info.Size()
	}
	return int64(st.FDSize)
}
