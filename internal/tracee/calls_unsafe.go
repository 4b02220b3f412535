package tracee

import (
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/arch"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/proc"
)

// ptraceTries is how often a request is made.
const ptraceTries = 3

// request makes a request of ptrace(2), and again if it fails for a reason that
// may pass: it is by these that a thread gets its own registers back and is let
// go, and one that does not is harmed. A request that fails has done nothing.
//
// addr and data may be pointers to what is the caller's: the directive has it lie
// still, which the stack of a goroutine does not in a call of Go.
//
//go:uintptrescapes
func request(req int, tid proc.TID, addr, data uintptr) (uintptr, unix.Errno) {
	for i := 1; ; i++ {
		n, _, e := unix.RawSyscall6(unix.SYS_PTRACE, uintptr(req), uintptr(tid), addr, data, 0, 0)
		if e == 0 || e == unix.ESRCH || e == unix.EINVAL || i == ptraceTries {
			return n, e
		}
	}
}

func ptrace(req int, tid proc.TID, addr, data uintptr) error {
	_, e := request(req, tid, addr, data)
	return errnoErr(e)
}

// seizeSlowly attaches to a thread and tells Go that this may take long, so that
// other goroutines go on. It tries no more once it is over.
func seizeSlowly(tid proc.TID, options uintptr, over *atomic.Bool) error {
	var e unix.Errno
	for range ptraceTries {
		_, _, e = unix.Syscall6(unix.SYS_PTRACE, linux.PTRACE_SEIZE, uintptr(tid), 0, options, 0, 0)
		if e == 0 || e == unix.ESRCH || e == unix.EINVAL || over.Load() {
			break
		}
	}
	return errnoErr(e)
}

// Regs returns the general registers of a stopped thread.
func Regs(tid proc.TID) (arch.Regs, error) {
	var r arch.Regs
	iov := unix.Iovec{Base: (*byte)(unsafe.Pointer(&r)), Len: uint64(unsafe.Sizeof(r))}
	_, e := request(linux.PTRACE_GETREGSET, tid, linux.NT_PRSTATUS, uintptr(unsafe.Pointer(&iov)))
	return r, wrap("read registers of", tid, errnoErr(e))
}

// SetRegs sets the general registers of a stopped thread.
func SetRegs(tid proc.TID, r *arch.Regs) error {
	iov := unix.Iovec{Base: (*byte)(unsafe.Pointer(r)), Len: uint64(unsafe.Sizeof(*r))}
	_, e := request(linux.PTRACE_SETREGSET, tid, linux.NT_PRSTATUS, uintptr(unsafe.Pointer(&iov)))
	return wrap("set registers of", tid, errnoErr(e))
}

// XState reads the whole extended register state (XSAVE layout, not
// compacted) of a stopped thread into buf and returns the part that was
// filled.
func XState(tid proc.TID, buf []byte) ([]byte, error) {
	iov := unix.Iovec{Base: &buf[0], Len: uint64(len(buf))}
	_, e := request(linux.PTRACE_GETREGSET, tid, linux.NT_X86_XSTATE, uintptr(unsafe.Pointer(&iov)))
	if e != 0 {
		return nil, wrap("read extended registers of", tid, e)
	}
	return buf[:iov.Len], nil
}

// Ports tells whether a stopped thread may use I/O ports by itself, see ioperm(2).
// A kernel or CPU without them has no such registers.
func Ports(tid proc.TID) (bool, error) {
	var first uint64 // of the bitmap, which is what is asked for
	iov := unix.Iovec{Base: (*byte)(unsafe.Pointer(&first)), Len: uint64(unsafe.Sizeof(first))}
	_, e := request(linux.PTRACE_GETREGSET, tid, linux.NT_386_IOPERM, uintptr(unsafe.Pointer(&iov)))
	switch e {
	case 0:
		return iov.Len > 0, nil
	case unix.EINVAL, unix.ENXIO, unix.ENODEV:
		return false, nil
	}
	return false, wrap("read the I/O ports of", tid, e)
}

// SetXState sets the extended register state; the size must be the kernel's.
func SetXState(tid proc.TID, state []byte) error {
	if len(state) == 0 {
		return wrap("set extended registers of", tid, unix.EINVAL)
	}
	iov := unix.Iovec{Base: &state[0], Len: uint64(len(state))}
	_, e := request(linux.PTRACE_SETREGSET, tid, linux.NT_X86_XSTATE, uintptr(unsafe.Pointer(&iov)))
	return wrap("set extended registers of", tid, errnoErr(e))
}

// Sigmask returns the mask of blocked signals, signal 1 in bit 0.
func Sigmask(tid proc.TID) (mask uint64, err error) {
	_, e := request(linux.PTRACE_GETSIGMASK, tid, linux.KernelSigsetSize, uintptr(unsafe.Pointer(&mask)))
	return mask, wrap("read signal mask of", tid, errnoErr(e))
}

// SetSigmask sets the mask of blocked signals of a stopped thread.
func SetSigmask(tid proc.TID, mask uint64) error {
	_, e := request(linux.PTRACE_SETSIGMASK, tid, linux.KernelSigsetSize, uintptr(unsafe.Pointer(&mask)))
	return wrap("set signal mask of", tid, errnoErr(e))
}

// Rseq returns the registration of rseq(2); its Pointer is 0 without one.
func Rseq(tid proc.TID) (c linux.RseqConfig, err error) {
	_, e := request(linux.PTRACE_GET_RSEQ_CONFIG, tid, unsafe.Sizeof(c), uintptr(unsafe.Pointer(&c)))
	return c, wrap("read rseq registration of", tid, errnoErr(e))
}

// UserDispatch tells whether a thread's system calls go to a handler of its own
// (Syscall User Dispatch, PR_SET_SYSCALL_USER_DISPATCH(2const)). Before Linux
// 6.4 the kernel does not say: false.
func UserDispatch(tid proc.TID) (bool, error) {
	var c [4]uint64 // struct ptrace_sud_config: mode, selector, offset, length
	_, e := request(linux.PTRACE_GET_DISPATCH, tid, unsafe.Sizeof(c), uintptr(unsafe.Pointer(&c)))
	if e == unix.EIO || e == unix.EINVAL {
		return false, nil
	}
	return c[0] != 0, wrap("read system call dispatch of", tid, errnoErr(e))
}

// Pending returns the queued signals of a thread, or those of its process if
// shared is set, oldest first. They stay queued. Until ended returns why not: the kernel
// counts its way to each from the first on, which takes 0.1 s for 5000, a minute for 90,000.
func Pending(tid proc.TID, shared bool, ended func() error) (out []linux.Siginfo, err error) {
	args := linux.PeekSiginfoArgs{}
	if shared {
		args.Flags = linux.PTRACE_PEEKSIGINFO_SHARED
	}
	buf := make([]linux.Siginfo, 1) // most have none
	for {
		args.Off, args.Nr = uint64(len(out)), int32(len(buf))
		if err := ended(); err != nil {
			return nil, err
		}
		n, e := request(linux.PTRACE_PEEKSIGINFO, tid, uintptr(unsafe.Pointer(&args)), uintptr(unsafe.Pointer(&buf[0])))
		if e != 0 {
			return nil, wrap("read pending signals of", tid, e)
		}
		if n == 0 {
			return out, nil
		}
		out = append(out, buf[:n]...)
		if len(buf) == 1 {
			buf = make([]linux.Siginfo, 32)
		}
	}
}

// Siginfo returns the siginfo of the signal-delivery stop a thread is in.
func Siginfo(tid proc.TID) (si linux.Siginfo, err error) {
	_, e := request(linux.PTRACE_GETSIGINFO, tid, 0, uintptr(unsafe.Pointer(&si)))
	return si, wrap("read signal of", tid, errnoErr(e))
}

func errnoErr(e unix.Errno) error {
	if e == 0 {
		return nil
	}
	return e
}

// endingAction is how endSignal is handled while a call is ended; no handler where there
// is none.
func endingAction() linux.Sigaction {
	return linux.Sigaction{Handler: arch.EndSeize(), Flags: linux.SA_RESTORER | linux.SA_ONSTACK | linux.SA_RESTART, Restorer: arch.Restorer()}
}

// getTIDAgain enters the kernel and comes out of it: signals that were sent to this
// thread before are handled then.
func getTIDAgain() { _, _, _ = unix.RawSyscall(unix.SYS_GETTID, 0, 0, 0) }

// unblock has this thread get a signal.
func unblock(sig unix.Signal) {
	var set unix.Sigset_t
	set.Val[(sig-1)/64] = 1 << ((sig - 1) % 64)
	_ = unix.PthreadSigmask(unix.SIG_UNBLOCK, &set, nil) // it can't fail
}

// QuietStops has the kernel send this process no SIGCHLD when a tracee (or
// child) stops, only when one ends. A dump makes thousands of stops, each of
// which is waited for anyway; the Go runtime handling a signal for each costs
// more than the stop. It concerns the whole process, so it is for a program
// whose business this is, not for a library.
func QuietStops() error {
	var a linux.Sigaction
	err := (*linux.Sigaction)(nil).Set(unix.SIGCHLD, &a)
	if err == nil {
		a.Flags |= linux.SA_NOCLDSTOP
		err = a.Set(unix.SIGCHLD, nil)
	}
	return wrap("quiet the stops of", 0, err)
}
