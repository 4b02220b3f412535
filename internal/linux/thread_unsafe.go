package linux

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// AffinitySize is how many bytes sched_getaffinity(2) tells of a set of CPUs.
func AffinitySize() (int, error) {
	var set [1024]byte // 8192 CPUs, the most that Linux can be built for
	n, _, e := unix.RawSyscall(unix.SYS_SCHED_GETAFFINITY, 0, uintptr(len(set)), uintptr(unsafe.Pointer(&set)))
	if e != 0 {
		return 0, e
	}
	return int(n), nil
}

// CoreCookie returns the calling thread's cookie of core scheduling, see
// PR_SCHED_CORE. EINVAL: the kernel knows of none; ENODEV: the machine does not.
func CoreCookie() (cookie uint64, err error) {
	_, _, e := unix.RawSyscall6(unix.SYS_PRCTL, unix.PR_SCHED_CORE, unix.PR_SCHED_CORE_GET, 0, PIDTYPE_PID, uintptr(unsafe.Pointer(&cookie)), 0)
	if e != 0 {
		return 0, e
	}
	return cookie, nil
}

// HasRobustList tells whether a thread has told the kernel of a list of robust futexes
// (set_robust_list(2)), as all of glibc's have. false if the kernel doesn't say.
func HasRobustList(tid int) bool {
	var head, size uintptr
	_, _, e := unix.RawSyscall(unix.SYS_GET_ROBUST_LIST, uintptr(tid), uintptr(unsafe.Pointer(&head)), uintptr(unsafe.Pointer(&size)))
	return e == 0 && head != 0
}
