package arch

// Tell returns the address of a signal handler. It writes the number of the signal, one byte,
// to a descriptor, that of the last call of Tell, and does no more: it needs 8 bytes of stack
// and nothing of Go's. If that is -1 the signal is sent to the process once more, whose
// handler must be another one by then.
func Tell(to int) (handler uintptr) { return tell(int32(to)) }

// tell is Tell.
func tell(to int32) (handler uintptr)

// Telling tells whether a thread is about to write to a descriptor of Tell's: the last one,
// unless it has changed meanwhile.
func Telling() bool

// Restorer returns the address of what a signal handler returns to (SA_RESTORER).
func Restorer() uintptr
