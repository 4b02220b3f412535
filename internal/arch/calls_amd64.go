package arch

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// CalledNr returns the number of the system call made by the instruction at
// the end of code, if the number was loaded right before it (mov eax,imm32),
// as compilers do for calls with a fixed number.
func CalledNr(code []byte) (nr uint64, ok bool) {
	const load, loadSize = 0xb8, 5
	at := len(code) - syscallSize - loadSize
	if at < 0 || code[at] != load || [2]byte(code[len(code)-syscallSize:]) != SyscallInsn {
		return 0, false
	}
	return uint64(binary.LittleEndian.Uint32(code[at+1:])), true
}

// CalledNrSize is how many bytes before AfterSyscall CalledNr looks at.
const CalledNrSize = 7

// SysRestart is restart_syscall(2): what a thread is in that went on from the
// kernel's restart block before.
const SysRestart = unix.SYS_RESTART_SYSCALL

// SysArchPrctl is arch_prctl(2).
const SysArchPrctl = unix.SYS_ARCH_PRCTL

// SysIoperm is ioperm(2).
const SysIoperm = unix.SYS_IOPERM

// SysIopl is iopl(2).
const SysIopl = unix.SYS_IOPL

// SysModifyLDT is modify_ldt(2).
const SysModifyLDT = unix.SYS_MODIFY_LDT

// RestartCode returns the kernel's own error number that the call of a thread
// ended with (-512 and below), if it did.
func RestartCode(r *Regs) (code int64, ok bool) {
	if _, in := InSyscall(r); !in {
		return 0, false
	}
	switch c := int64(r.Rax); c {
	case eRESTARTSYS, eRESTARTNOINTR, eRESTARTNOHAND, eRESTART_RESTARTBLOCK:
		return c, true
	}
	return 0, false
}

// Numbers of the kernel's own errors for SetInterrupted.
const (
	RestartSys    = eRESTARTSYS
	RestartNoHand = eRESTARTNOHAND
	RestartBlock  = eRESTART_RESTARTBLOCK
)

// ValidRestart tells whether a number is one of the kernel's own that say how
// an interrupted call goes on.
func ValidRestart(code int64) bool {
	return code == eRESTARTSYS || code == eRESTARTNOINTR || code == eRESTARTNOHAND || code == eRESTART_RESTARTBLOCK
}

// Again makes the thread enter system call nr anew with the same arguments. r
// must be as after the call.
func Again(r *Regs, nr uint64) {
	r.Rax, r.Orig_rax = nr, ^uint64(0)
	r.Rip -= syscallSize
}

// AtCall tells whether registers are those that Again and FoldRestart leave:
// about to make call nr.
func AtCall(r *Regs, nr uint64) bool { return r.Rax == nr }

// SetInterrupted is the reverse of FoldRestart: it makes registers that stand
// before (folded) or after the system call nr those of a thread whose call
// was interrupted with this code, so that the kernel decides how it goes on.
func SetInterrupted(r *Regs, nr uint64, code int64, folded bool) {
	if folded {
		r.Rip += syscallSize
	}
	r.Rax, r.Orig_rax = uint64(code), nr
}

// Finish makes the thread stand after its system call with this result.
func Finish(r *Regs, result int64) { r.Rax, r.Orig_rax = uint64(result), ^uint64(0) }

// Renewable tells whether a system call that ends with EINTR whenever its thread is
// stopped (signal(7), last section) can be made again, since it has done nothing yet: it has
// no timeout, or its socket has the limit (SO_RCVTIMEO, SO_SNDTIMEO), and read(2) and others
// end so only at such a one, and where a driver says that nothing was read or written.
func Renewable(nr uint64, a [6]uint64) bool {
	switch nr {
	case unix.SYS_EPOLL_WAIT, unix.SYS_EPOLL_PWAIT:
		return int32(a[3]) < 0
	case unix.SYS_EPOLL_PWAIT2, unix.SYS_SEMTIMEDOP:
		return a[3] == 0
	case unix.SYS_RT_SIGTIMEDWAIT:
		return a[2] == 0
	case unix.SYS_IO_GETEVENTS, unix.SYS_IO_PGETEVENTS:
		return a[4] == 0
	case unix.SYS_SEMOP, unix.SYS_CONNECT, unix.SYS_ACCEPT, unix.SYS_ACCEPT4,
		unix.SYS_RECVFROM, unix.SYS_RECVMSG, unix.SYS_RECVMMSG, unix.SYS_READ, unix.SYS_READV,
		unix.SYS_SENDTO, unix.SYS_SENDMSG, unix.SYS_SENDMMSG, unix.SYS_WRITE, unix.SYS_WRITEV, unix.SYS_SENDFILE:
		return true
	}
	return false
}

// SomeMessages tells whether a thread's call was recvmmsg(2), and has returned some of the
// messages that it was to wait for, and the number of its socket.
func SomeMessages(r *Regs) (fd int32, ok bool) {
	nr, in := InSyscall(r)
	return int32(r.Rdi), in && nr == unix.SYS_RECVMMSG && int64(r.Rax) > 0 && r.Rax < uint64(uint32(r.Rdx))
}

// IsConnect tells whether a system call is connect(2).
func IsConnect(nr uint64) bool { return nr == unix.SYS_CONNECT }

// SleepArgs tells which arguments of a sleeping call (by index) are the time to
// sleep and where the kernel leaves the rest.
func SleepArgs(nr uint64) (request, rest int, ok bool) {
	switch nr {
	case unix.SYS_NANOSLEEP:
		return 0, 1, true
	case unix.SYS_CLOCK_NANOSLEEP:
		return 2, 3, true
	}
	return 0, 0, false
}

// Timed tells whether a call goes on from the kernel's restart block and has a time of
// which the program isn't told what is left. restart_syscall(2) may be such a one.
func Timed(nr uint64, a [6]uint64) bool {
	switch nr {
	case unix.SYS_POLL:
		return int32(a[2]) > 0
	case unix.SYS_FUTEX:
		return a[1]&^futexFlags == FutexWait && a[3] != 0
	case unix.SYS_NANOSLEEP:
		return a[1] == 0
	case unix.SYS_CLOCK_NANOSLEEP:
		return a[1]&unix.TIMER_ABSTIME == 0 && a[3] == 0
	}
	return nr == SysRestart
}

// BlockEnd returns when the time of such a call is over, in ns of a clock (CLOCK_*) as
// the initial time namespace has it, by the head of the kernel's struct restart_block
// behind fn. It says so only if that is of this call.
func BlockEnd(nr uint64, a [6]uint64, block [4]uint64) (clock int32, end uint64, ok bool) {
	const second = 1e9
	switch {
	case nr == unix.SYS_POLL:
		ok = block[0] == a[0] && block[1] == 1<<32|a[1]&(1<<32-1) && block[2] < 1<<33 && block[3] < second
		return unix.CLOCK_MONOTONIC, block[2]*second + block[3], ok
	case nr == unix.SYS_FUTEX:
		return unix.CLOCK_MONOTONIC, block[3], block[0] == a[0] && uint32(block[1]) == uint32(a[2])
	case nr == unix.SYS_NANOSLEEP || nr == unix.SYS_CLOCK_NANOSLEEP:
		clock = int32(block[0]) // CLOCK_MONOTONIC, if it was CLOCK_REALTIME
		return clock, block[2], block[0]>>32 == 0 && (clock == unix.CLOCK_MONOTONIC || clock == unix.CLOCK_BOOTTIME)
	}
	return 0, 0, false
}

// TimeArg tells which argument of a call (by index) is its time, and whether that is the
// address of a struct timespec or a number of milliseconds.
func TimeArg(nr uint64) (arg int, milliseconds, ok bool) {
	switch nr {
	case unix.SYS_POLL:
		return 2, true, true
	case unix.SYS_FUTEX:
		return 3, false, true
	}
	arg, _, ok = SleepArgs(nr)
	return arg, false, ok
}

// Polled tells where the descriptors are that poll(2) waits for, struct pollfd, and how
// many; none if it is another call.
func Polled(nr uint64, a [6]uint64) (at uint64, n uint32) {
	if nr != unix.SYS_POLL {
		return 0, 0
	}
	return a[0], uint32(a[1])
}

// From include/uapi/linux/futex.h.
const (
	FutexWait          = 0
	FutexWaitBitset    = 9
	FutexWaitRequeuePI = 11
	futexFlags         = 128 | 256 // FUTEX_PRIVATE_FLAG, FUTEX_CLOCK_REALTIME
)

// CallOf finds out by the first two words of what the kernel's restart block says of a
// call (struct restart_block, behind fn) which one of these it is: those are the address
// and value of a futex, the clock, kind and place of a sleep's rest, or the descriptors
// and number of a poll. It says so only where they fit no other.
func CallOf(a [6]uint64, block [2]uint64) (nr uint64, ok bool) {
	const pointer = 1 << 16
	same, low, high := block[0] == a[0] && a[0] != 0, uint32(block[1]), block[1]>>32
	none, native := block[0]>>32 == 0, block[0]>>32 == 1 // where to leave the rest: TT_NONE, TT_NATIVE
	sleeps := func(rest uint64) bool {
		return none && rest == 0 || native && rest != 0 && block[1] == rest
	}
	return only([]fit{
		{unix.SYS_FUTEX, same && low == uint32(a[2]) && high > 1},             // flags, FLAGS_HAS_TIMEOUT among them
		{unix.SYS_POLL, block[0] == a[0] && low == uint32(a[1]) && high <= 1}, // whether it has a timeout
		{unix.SYS_NANOSLEEP, a[0] >= pointer && sleeps(a[1])},
		{unix.SYS_CLOCK_NANOSLEEP, a[0] < pointer && a[1] == 0 && a[2] >= pointer && sleeps(a[3])},
	})
}

// fit is a call that a thread may be in.
type fit struct {
	nr uint64
	is bool
}

// only returns the call that it is if it is one alone.
func only(fits []fit) (nr uint64, ok bool) {
	n := 0
	for _, f := range fits {
		if f.is {
			n, nr = n+1, f.nr
		}
	}
	return nr, n == 1
}

// BlockCall finds out which of the calls that use the kernel's restart block
// a thread is in by the arguments alone: nanosleep, clock_nanosleep, futex or
// poll. It says so only where the arguments fit no other.
func BlockCall(a [6]uint64) (nr uint64, ok bool) {
	const pointer = 1 << 16 // mmap_min_addr: addresses begin here
	op, isInt := a[1]&^futexFlags, a[2]>>32 == 0 || int64(a[2]) == int64(int32(a[2]))
	return only([]fit{
		{unix.SYS_FUTEX, a[0] >= pointer && a[0]%4 == 0 && a[3] >= pointer && (op == FutexWait || op == FutexWaitBitset || op == FutexWaitRequeuePI)},
		{unix.SYS_POLL, a[1] < pointer && (a[0] >= pointer || a[1] == 0) && isInt && a[2] != 0},
		{unix.SYS_NANOSLEEP, a[0] >= pointer && (a[1] == 0 || a[1] >= pointer)},
		{unix.SYS_CLOCK_NANOSLEEP, a[0] < pointer && a[1] == 0 && a[2] >= pointer},
	})
}
