package linux

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Sigaction is the kernel's struct sigaction.
type Sigaction struct {
	Handler, Flags, Restorer uintptr
	Mask                     uint64
}

// From include/uapi/asm-generic/signal-defs.h and arch/x86/include/uapi/asm/signal.h.
const (
	SA_NOCLDSTOP = 1
	SA_RESTORER  = 0x04000000
	SA_ONSTACK   = 0x08000000
	SA_RESTART   = 0x10000000
)

// Set is rt_sigaction(2); a and old may be nil.
func (a *Sigaction) Set(sig unix.Signal, old *Sigaction) error {
	_, _, e := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(a)), uintptr(unsafe.Pointer(old)), KernelSigsetSize, 0, 0)
	if e != 0 {
		return e
	}
	return nil
}
