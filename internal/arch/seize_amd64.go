package arch

// EndSeize returns the addresses of a signal handler and of what a handler returns to
// (SA_RESTORER), see tracee.Seizing. The handler uses nothing of its thread's but 8
// bytes of stack.
func EndSeize() (handler, restorer uintptr)
