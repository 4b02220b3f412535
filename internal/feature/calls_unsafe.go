package feature

import (
	"context"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

func errno(e unix.Errno) error {
	if e == 0 {
		return nil
	}
	return e
}

// prctlMMMap asks for the size of the structure that PR_SET_MM_MAP takes, see
// PR_SET_MM(2const).
func prctlMMMap(context.Context) error {
	var size uint32
	_, _, e := unix.RawSyscall6(unix.SYS_PRCTL, unix.PR_SET_MM, unix.PR_SET_MM_MAP_SIZE, uintptr(unsafe.Pointer(&size)), 0, 0, 0)
	return conclude(errno(e), "prctl(PR_SET_MM_MAP_SIZE)")
}

// seccompActionAvail asks whether filters may return an action, see
// seccomp(2). Linux 4.14.
func seccompActionAvail(action uint32) error {
	_, _, e := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_GET_ACTION_AVAIL, 0, uintptr(unsafe.Pointer(&action)))
	return errno(e)
}

// cloneArgs is struct clone_args of include/uapi/linux/sched.h, Linux 5.5.
type cloneArgs struct {
	flags, pidfd, childTID, parentTID, exitSignal, stack, stackSize, tls, setTID, setTIDSize uint64
}

// clone3Taken asks for a process whose number is pid, which a live process
// must have, so that there never is a child. The memory would be shared, so
// that the kernel doesn't copy its tables in vain.
func clone3Taken(pid int) error {
	tid := new(int32)
	*tid = int32(pid)
	var pin runtime.Pinner // the address is hidden in a number
	pin.Pin(tid)
	defer pin.Unpin()
	args := cloneArgs{
		flags: unix.CLONE_VM | unix.CLONE_FILES | unix.CLONE_FS | unix.CLONE_SIGHAND, exitSignal: uint64(unix.SIGCHLD),
		setTID: uint64(uintptr(unsafe.Pointer(tid))), setTIDSize: 1,
	}
	_, _, e := unix.RawSyscall(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&args)), unsafe.Sizeof(args), 0)
	return errno(e)
}

// uffdAPI shakes hands with a userfaultfd, see UFFDIO_API(2const).
func uffdAPI(fd int, features uint64) error {
	const request, version = 0xc018aa3f, 0xaa
	api := struct{ api, features, ioctls uint64 }{api: version, features: features}
	_, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(&api)))
	return errno(e)
}

// timerfdTicks sets the expirations of a timer nobody has read. Linux 3.17.
func timerfdTicks(context.Context) error {
	const request = 0x40085400 // TFD_IOC_SET_TICKS, include/uapi/linux/timerfd.h
	n, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC)
	if err != nil {
		return conclude(err, "timerfd_create")
	}
	defer unix.Close(n)
	ticks := uint64(1)
	_, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(n), request, uintptr(unsafe.Pointer(&ticks)))
	return conclude(errno(e), "ioctl(TFD_IOC_SET_TICKS)")
}

// vmReadv copies eight bytes of the engine itself.
func vmReadv(context.Context) error {
	from, to := make([]byte, 8), make([]byte, 8)
	local := unix.Iovec{Base: &to[0]}
	local.SetLen(len(to))
	var pin runtime.Pinner
	pin.Pin(&from[0])
	defer pin.Unpin()
	remote := unix.RemoteIovec{Base: uintptr(unsafe.Pointer(&from[0])), Len: len(from)}
	_, err := unix.ProcessVMReadv(os.Getpid(), []unix.Iovec{local}, []unix.RemoteIovec{remote}, 0)
	return conclude(err, "process_vm_readv")
}

// aioRemap moves the ring of an AIO context and looks whether the kernel
// finds it at the new place.
func aioRemap(context.Context) error {
	var ctx uintptr
	if _, _, e := unix.Syscall(unix.SYS_IO_SETUP, 1, uintptr(unsafe.Pointer(&ctx)), 0); e != 0 {
		return conclude(e, "io_setup")
	}
	defer func() { unix.Syscall(unix.SYS_IO_DESTROY, ctx, 0, 0) }()
	size, err := mappingSize(uint64(ctx))
	if err != nil {
		return err
	}
	// A hole that is ours: the ring replaces it, and io_destroy unmaps it.
	hole, _, e := unix.Syscall6(unix.SYS_MMAP, 0, size, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, ^uintptr(0), 0)
	if e != 0 {
		return conclude(e, "mmap")
	}
	if _, _, e := unix.Syscall6(unix.SYS_MREMAP, ctx, size, size, unix.MREMAP_FIXED|unix.MREMAP_MAYMOVE, hole, 0); e != 0 {
		unix.Syscall(unix.SYS_MUNMAP, hole, size, 0)
		return conclude(e, "mremap of an AIO ring")
	}
	ctx = hole
	_, _, e = unix.Syscall6(unix.SYS_IO_GETEVENTS, ctx, 0, 1, 0, 0, 0)
	return conclude(errno(e), "io_getevents on a moved AIO ring")
}

// address returns where memory from mmap(2) lies.
func address(mem []byte) uint64 { return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(mem)))) }
