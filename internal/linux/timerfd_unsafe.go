package linux

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// SetTicks has a timerfd tell that it has expired so often, which is not 0.
func SetTicks(fd int, ticks uint64) error {
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), TFD_IOC_SET_TICKS, uintptr(unsafe.Pointer(&ticks))); e != 0 {
		return e
	}
	return nil
}
