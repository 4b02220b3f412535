package unix

import "unsafe"

func pointer(sa *[16]byte) unsafe.Pointer { return unsafe.Pointer(sa) }
