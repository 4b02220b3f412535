package linux

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// pidfdInfo is struct pidfd_info of include/uapi/linux/pidfd.h in its first
// version.
type pidfdInfo struct {
	mask, cgroup uint64
	ids          [11]uint32
	exit         int32
}

// PidfdExit returns how the process of a pidfd has ended, as wait(2) tells it;
// ok is false if it has not been waited for, or the kernel doesn't know (before
// Linux 6.15).
func PidfdExit(fd int) (status uint32, ok bool) {
	info := pidfdInfo{mask: PIDFD_INFO_EXIT}
	_, _, e := unix.RawSyscall(unix.SYS_IOCTL, uintptr(fd), PIDFD_GET_INFO, uintptr(unsafe.Pointer(&info)))
	return uint32(info.exit), e == 0 && info.mask&PIDFD_INFO_EXIT != 0
}
