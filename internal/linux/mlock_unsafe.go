package linux

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// MLOCK_ONFAULT is from include/uapi/asm-generic/mman-common.h, Linux 4.4.
const MLOCK_ONFAULT = 1

// Mlock2 locks memory of the engine's own, see mlock2(2).
func Mlock2(b []byte, flags int) error {
	_, _, e := unix.Syscall(unix.SYS_MLOCK2, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), uintptr(flags))
	if e != 0 {
		return e
	}
	return nil
}
