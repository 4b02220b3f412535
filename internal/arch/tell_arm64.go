package arch

// Tell does nothing yet.
func Tell(to int) (handler, restorer uintptr) { return 0, 0 }
