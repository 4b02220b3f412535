package linux

// From include/uapi/linux/ptrace.h; see ptrace(2).
const (
	PTRACE_CONT               = 7
	PTRACE_DETACH             = 17
	PTRACE_SYSCALL            = 24
	PTRACE_SETOPTIONS         = 0x4200
	PTRACE_GETEVENTMSG        = 0x4201
	PTRACE_GETSIGINFO         = 0x4202
	PTRACE_GETREGSET          = 0x4204
	PTRACE_SETREGSET          = 0x4205
	PTRACE_SEIZE              = 0x4206 // Linux 3.4
	PTRACE_INTERRUPT          = 0x4207 // Linux 3.4
	PTRACE_LISTEN             = 0x4208 // Linux 3.4
	PTRACE_PEEKSIGINFO        = 0x4209 // Linux 3.10
	PTRACE_GETSIGMASK         = 0x420a // Linux 3.11
	PTRACE_SETSIGMASK         = 0x420b // Linux 3.11
	PTRACE_SECCOMP_GET_FILTER = 0x420c // Linux 4.4
	PTRACE_GET_RSEQ_CONFIG    = 0x420f // Linux 5.13
	PTRACE_GET_DISPATCH       = 0x4211 // PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG, Linux 6.4

	PTRACE_O_TRACESYSGOOD    = 1
	PTRACE_O_TRACEEXEC       = 1 << 4
	PTRACE_O_TRACEEXIT       = 1 << 6
	PTRACE_O_EXITKILL        = 1 << 20
	PTRACE_O_SUSPEND_SECCOMP = 1 << 21 // Linux 4.3, needs CAP_SYS_ADMIN

	PTRACE_EVENT_EXEC         = 4
	PTRACE_EVENT_STOP         = 128
	PTRACE_PEEKSIGINFO_SHARED = 1
)

// Notes of PTRACE_GETREGSET, from include/uapi/linux/elf.h.
const (
	NT_PRSTATUS   = 1
	NT_386_IOPERM = 0x201
	NT_X86_XSTATE = 0x202
)

// WALL makes wait4(2) see every kind of child and tracee (__WALL).
const WALL = 0x40000000

// What waitid(2) says of an end in si_code: include/uapi/asm-generic/siginfo.h.
const (
	CLD_EXITED = 1
	CLD_KILLED = 2
	CLD_DUMPED = 3
)

// PeekSiginfoArgs is struct ptrace_peeksiginfo_args.
type PeekSiginfoArgs struct {
	Off   uint64
	Flags uint32
	Nr    int32
}

// RseqConfig is struct ptrace_rseq_configuration (Linux 5.13).
type RseqConfig struct {
	Pointer   uint64
	Size      uint32
	Signature uint32
	Flags     uint32
	Pad       uint32
}

// SiginfoSize is SI_MAX_SIZE of include/uapi/asm-generic/siginfo.h, in bytes.
const SiginfoSize = 128

// Siginfo is a siginfo_t as the kernel hands it out: opaque but for its head.
type Siginfo [SiginfoSize]byte
