package arch

// Tell returns the addresses of a signal handler and of what a handler returns to
// (SA_RESTORER). The handler writes the number of the signal, one byte, to a descriptor,
// that of the last call of Tell, and does no more: it needs 8 bytes of stack and nothing
// of Go's.
func Tell(to int) (handler, restorer uintptr) { return tell(int32(to)) }

// tell is Tell.
func tell(to int32) (handler, restorer uintptr)
