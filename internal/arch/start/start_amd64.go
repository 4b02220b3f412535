package start

// madvise is madvise(2). It returns 0 or a negative errno. Package syscall would be
// made ready before this one.
//
//go:noescape
func madvise(at, size, advice uintptr) int
