package start

// madvise does nothing: there is no Glis on this CPU yet.
func madvise(_, _, _ uintptr) int { return -38 } // ENOSYS

// toAdvise stays 0.
var toAdvise int64

// Later does nothing.
func Later(int) {}
