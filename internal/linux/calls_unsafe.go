package linux

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Kcmp compares a kernel object of two tasks, see kcmp(2). 0 means the same
// object; 1 and 2 give an order that is stable until reboot.
func Kcmp(pid1, pid2, typ int, idx1, idx2 uintptr) (int, error) {
	r, _, e := unix.RawSyscall6(unix.SYS_KCMP, uintptr(pid1), uintptr(pid2), uintptr(typ), idx1, idx2, 0)
	if e != 0 {
		return 0, e
	}
	return int(r), nil
}

// GetRobustList returns the head and length of a thread's robust futex list,
// see get_robust_list(2). It needs ptrace rights over the thread.
func GetRobustList(tid int) (head, length uint64, err error) {
	_, _, e := unix.RawSyscall(unix.SYS_GET_ROBUST_LIST, uintptr(tid), uintptr(unsafe.Pointer(&head)), uintptr(unsafe.Pointer(&length)))
	if e != 0 {
		return 0, 0, e
	}
	return head, length, nil
}

// PagemapScan walks [start,end) of an open /proc/PID/pagemap and calls found
// with what each ioctl returned; its error ends the walk and is returned. vec is the buffer to use. Linux 6.7;
// ENOTTY before.
func PagemapScan(fd int, arg PmScanArg, vec []PageRegion, found func([]PageRegion) error) error {
	if len(vec) == 0 {
		return unix.EINVAL
	}
	arg.Size = uint64(unsafe.Sizeof(arg))
	arg.Vec, arg.VecLen = uint64(uintptr(unsafe.Pointer(&vec[0]))), uint64(len(vec))
	for arg.Start < arg.End {
		n, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), PAGEMAP_SCAN, uintptr(unsafe.Pointer(&arg)))
		if e == unix.EINTR {
			continue
		}
		if e != 0 {
			return e
		}
		if err := found(vec[:n]); err != nil {
			return err
		}
		if arg.WalkEnd <= arg.Start {
			return unix.EIO
		}
		arg.Start = arg.WalkEnd
	}
	runtime.KeepAlive(vec)
	return nil
}

// RtTgsigqueueinfo queues a signal with a full siginfo for one thread, see
// rt_tgsigqueueinfo(2).
func RtTgsigqueueinfo(tgid, tid, sig int, info *Siginfo) error {
	_, _, e := unix.RawSyscall6(unix.SYS_RT_TGSIGQUEUEINFO, uintptr(tgid), uintptr(tid), uintptr(sig), uintptr(unsafe.Pointer(info)), 0, 0)
	if e != 0 {
		return e
	}
	return nil
}

// SchedGetaffinity reads the CPUs that a thread may run on, as a set for which there is
// room for all that the kernel could have, and returns how many bytes it has.
func SchedGetaffinity(tid int, set []byte) (int, error) {
	n, _, e := unix.RawSyscall(unix.SYS_SCHED_GETAFFINITY, uintptr(tid), uintptr(len(set)), uintptr(unsafe.Pointer(unsafe.SliceData(set))))
	if e != 0 {
		return 0, e
	}
	return int(n), nil
}

// StatSize is the size of struct stat, see fstat(2), in bytes.
const StatSize = uint64(unsafe.Sizeof(unix.Stat_t{}))

// StatBytes are these as the kernel writes them.
func StatBytes(s []unix.Stat_t) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(s))), len(s)*int(StatSize))
}
