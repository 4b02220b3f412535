package start

// madvise is madvise(2). It returns 0 or a negative errno. Package syscall would be
// made ready before this one.
//
//go:noescape
func madvise(at, size, advice uintptr) int

// Later is how many chunks of the heap are to get huge pages, if the program began at
// glis_start, beside those that it begins with: for one that is going to need more than
// those.
func Later(chunks int)

// toAdvise is how many chunks of the heap are still to get huge pages when they are
// mapped, from 2 on; it stays 0 unless the program began at glis_start.
var toAdvise int64

// fewest is how many more descriptors a program can have at least: the Go runtime takes
// some when it needs them, and panics if there are none.
const fewest = 8

// leastStack is how much stack a program needs, in bytes: what the Go runtime counts on,
// without asking.
const leastStack = 64 << 10

// What is said where the Go runtime would not begin, or end, otherwise than by a panic.
// The linker makes them; nobody changes them.
var (
	noDescriptors = "Error (start): too many open files; allow more (ulimit -n)\n"
	noMemory      = "Error (start): no memory: the machine has none, or too little address space is allowed; allow 2 GiB at least (ulimit -v)\n"
	noStack       = "Error (start): too little stack is allowed; allow 64 KiB at least (ulimit -s)\n"
	noThread      = "Error (start): no thread can be started: there are too many processes; allow more (ulimit -u, pids.max of the cgroup)\n"
)

// onWrite is what the Go runtime calls instead of write(2) if the program began at
// glis_start. It writes for itself when it gives up, and to wake a thread that polls.
var onWrite = saidOnce
