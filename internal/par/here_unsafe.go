package par

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// here returns the CPU that the caller runs on, below zero if that is not known.
func here() int {
	var cpu uint32
	if _, _, e := unix.RawSyscall(unix.SYS_GETCPU, uintptr(unsafe.Pointer(&cpu)), 0, 0); e != 0 {
		return -1
	}
	return int(cpu)
}
