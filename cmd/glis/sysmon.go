package main

import (
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// slack is how much later than it wants the Go runtime's own thread may look
// after the others, in ns.
const slack = "1000000"

// rest has that thread, which wakes every 20 µs as long as there is something to
// do, take the CPU from what it looks after less often: 3 % of a small dump are
// switches to it and back. It is the first thread that the runtime makes, which is
// known unless numbers begin anew meanwhile: then it stays as it is. It only spares
// time, so that errors have no consequence.
func rest() {
	dir, err := unix.Open("/proc/self/task", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	buf := make([]byte, 1024)
	n, err := unix.ReadDirent(dir, buf)
	_ = unix.Close(dir)
	if err != nil {
		return
	}
	_, _, names := unix.ParseDirent(buf[:n], -1, nil)
	tids := make([]int, 0, len(names))
	for _, s := range names {
		if tid, err := strconv.Atoi(s); err == nil && tid != os.Getpid() {
			tids = append(tids, tid)
		}
	}
	if len(tids) == 0 || slices.Min(tids) < os.Getpid() {
		return
	}
	f, err := unix.Open("/proc/"+strconv.Itoa(slices.Min(tids))+"/timerslack_ns", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	_, _ = unix.Write(f, []byte(slack))
	_ = unix.Close(f)
}
