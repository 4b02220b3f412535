package kmem

import "unsafe"

// addressOf returns where memory of this process is.
func addressOf(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }
