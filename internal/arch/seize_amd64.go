package arch

// EndSeize returns the address of a signal handler, see tracee.Seizing. It uses nothing of
// its thread's but 8 bytes of stack.
func EndSeize() (handler uintptr)
