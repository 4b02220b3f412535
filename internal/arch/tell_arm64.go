package arch

// Tell does nothing yet.
func Tell(to int) (handler uintptr) { return 0 }

// Telling is false where nobody tells.
func Telling() bool { return false }

// Restorer is of handlers that there are none of yet.
func Restorer() uintptr { return 0 }
