package arch

import "golang.org/x/sys/unix"

// Errors that the kernel keeps to itself (include/linux/errno.h): what an
// interrupted system call returns before signal handling decides.
const (
	eRESTARTSYS           = -512
	eRESTARTNOINTR        = -513
	eRESTARTNOHAND        = -514
	eRESTART_RESTARTBLOCK = -516
)

// syscallSize is the length of the system-call instruction.
const syscallSize = 2

// FoldRestart does what the kernel does when a thread resumes from an
// interrupted system call with no signal to handle: it makes the registers
// such that the call is made again. It is for registers that are set in
// another task or by rt_sigreturn(2), where the kernel won't do it.
//
// block tells whether the thread still has the kernel's restart block (the
// same task goes on); if not, a call that needs it ends with EINTR.
func FoldRestart(r *Regs, block bool) {
	if _, ok := InSyscall(r); !ok {
		return
	}
	switch int64(r.Rax) {
	case eRESTARTSYS, eRESTARTNOINTR, eRESTARTNOHAND:
		r.Rax = r.Orig_rax
		r.Rip -= syscallSize
	case eRESTART_RESTARTBLOCK:
		if block {
			r.Rax = unix.SYS_RESTART_SYSCALL
			r.Rip -= syscallSize
		} else {
			r.Rax = ^uint64(unix.EINTR) + 1
		}
	}
	r.Orig_rax = ^uint64(0)
}

// NeedsBlock tells whether the thread was in a call that goes on from the
// kernel's restart block: nanosleep, poll, futex with a timeout.
func NeedsBlock(r *Regs) bool {
	_, ok := InSyscall(r)
	return ok && int64(r.Rax) == eRESTART_RESTARTBLOCK
}

// CallArgs returns the arguments of the system call that the thread is in.
func CallArgs(r *Regs) [6]uint64 {
	return [6]uint64{r.Rdi, r.Rsi, r.Rdx, r.R10, r.R8, r.R9}
}

// AfterSyscall tells where the instruction after the system call is.
func AfterSyscall(r *Regs) uint64 { return r.Rip }

// Interrupted tells whether the thread's call ended with EINTR just because
// it was stopped.
func Interrupted(r *Regs) bool {
	_, ok := InSyscall(r)
	return ok && r.Rax == ^uint64(unix.EINTR)+1
}

// Rewind makes the thread enter its system call again.
func Rewind(r *Regs) {
	r.Rax = r.Orig_rax
	r.Rip -= syscallSize
	r.Orig_rax = ^uint64(0)
}

// Undecided makes the kernel decide, when the thread goes on, whether it enters its system
// call again or ends it with EINTR: a signal with a handler may come until then.
func Undecided(r *Regs) {
	code := int64(eRESTARTNOHAND)
	r.Rax = uint64(code)
}
