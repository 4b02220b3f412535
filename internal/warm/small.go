package warm

import (
	"bytes"
	"strconv"

	"glis.dev/glis/internal/fd"
)

// mostSmall is up to how large a mapping is found as a whole, in bytes: larger ones
// are the heap, and tables of the Go runtime of which little is used.
const mostSmall = 1 << 20

// Small has the kernel find all small mappings of this process that it may write
// to: what the Go runtime keeps beside the heap. It begins on a page of that with
// every size of objects, and each costs a fault.
func Small() {
	maps, err := fd.ReadFile("/proc/self/maps")
	if err != nil {
		return
	}
	for line := range bytes.Lines(maps) {
		if start, n, ok := writable(line); ok && n <= mostSmall {
			populate(start, n)
		}
	}
}

// writable returns where a private mapping is that can be written to, but for
// stacks, from a line of /proc/PID/maps, see proc_pid_maps(5).
func writable(line []byte) (start, n uintptr, ok bool) {
	f := bytes.Fields(line)
	if len(f) < 5 || string(f[1]) != "rw-p" || len(f) > 5 && bytes.HasPrefix(f[5], []byte("[stack")) {
		return 0, 0, false
	}
	from, to, _ := bytes.Cut(f[0], []byte("-"))
	a, err1 := strconv.ParseUint(string(from), 16, 64)
	b, err2 := strconv.ParseUint(string(to), 16, 64)
	return uintptr(a), uintptr(b - a), err1 == nil && err2 == nil && a < b
}
