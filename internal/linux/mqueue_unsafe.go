package linux

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// MQUEUE_MAGIC is what statfs(2) says of a file of mqueue: include/uapi/linux/magic.h.
const MQUEUE_MAGIC = 0x19800202

// MqOpen opens a POSIX message queue that is there, see mq_open(3). The kernel
// wants the name without the slash. The descriptor is the caller's.
func MqOpen(name string, flags int) (int, error) {
	p, err := unix.BytePtrFromString(name)
	if err != nil {
		return -1, err
	}
	n, _, e := unix.Syscall6(unix.SYS_MQ_OPEN, uintptr(unsafe.Pointer(p)), uintptr(flags), 0, 0, 0, 0)
	if e != 0 {
		return -1, e
	}
	return int(n), nil
}
