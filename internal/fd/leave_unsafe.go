package fd

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Of include/uapi/linux/io_uring.h.
const (
	ringParams    = 120 // bytes of struct io_uring_params
	registerFiles = 2   // IORING_REGISTER_FILES
)

// holdForAWhile has the kernel keep the files of descriptors open for about one grace period of
// RCU more, some milliseconds, and close them then from a thread of its own: a ring of
// io_uring(7) that has them is closed at once, and goes when nobody can see it any more
// (io_ring_ctx_free() of io_uring/io_uring.c). It fails where no ring can be made: before Linux
// 5.1, or as kernel.io_uring_disabled or a filter forbid it.
func holdForAWhile(fds [2]int) error {
	var p [ringParams / 8]uint64
	n, _, e := unix.RawSyscall(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&p)), 0)
	if e != 0 {
		return fmt.Errorf("io_uring_setup: %w", e)
	}
	defer unix.Close(int(n)) //nolint:errcheck // the files go with it
	f := [2]int32{int32(fds[0]), int32(fds[1])}
	if _, _, e = unix.RawSyscall6(unix.SYS_IO_URING_REGISTER, n, registerFiles, uintptr(unsafe.Pointer(&f)), uintptr(len(f)), 0, 0); e != 0 {
		return fmt.Errorf("io_uring_register(IORING_REGISTER_FILES): %w", e)
	}
	return nil
}
