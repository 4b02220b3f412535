//go:build amd64

package arch

import (
	"encoding/binary"
	"golang.org/x/sys/unix"
	"slices"
)

// Regs are the general registers as ptrace(2) gives them.
type Regs = unix.PtraceRegs

// Supported returns nil where this CPU is one Glis knows.
func Supported() error { return nil }

// TaskSize is the end of user address space (4-level page tables).
const TaskSize = 0x7ffffffff000

// Selectors of a 64-bit task (arch/x86/include/asm/segment.h).
const (
	userCS64 = 0x33
	userSS   = 0x2b
)

// code is the batch loop. r15 points to the entry, r14 counts the entries
// left, r12 points to Control. It touches no stack.
//
// A failed call (unless it may fail) ends the loop with r14 > 0. The end
// sends this thread the signal that its tracer stops it by; without a tracer
// that signal does nothing, and rt_sigreturn puts the thread back to where it
// was before the batch.
var code = []byte{
	0x4d, 0x85, 0xf6, //             00 loop: test r14,r14
	0x74, 0x4b, //                   03       jz end
	0x49, 0x8b, 0x07, //             05       mov rax,[r15]
	0x49, 0x8b, 0x7f, 0x08, //       08       mov rdi,[r15+8]
	0x49, 0x8b, 0x77, 0x10, //       0c       mov rsi,[r15+16]
	0x49, 0x8b, 0x57, 0x18, //       10       mov rdx,[r15+24]
	0x4d, 0x8b, 0x57, 0x20, //       14       mov r10,[r15+32]
	0x4d, 0x8b, 0x47, 0x28, //       18       mov r8,[r15+40]
	0x4d, 0x8b, 0x4f, 0x30, //       1c       mov r9,[r15+48]
	0x0f, 0x05, //                   20       syscall
	0x49, 0x89, 0x47, 0x38, //       22       mov [r15+56],rax
	0x48, 0x3d, 0x01, 0xf0, 0xff, 0xff, // 26 cmp rax,-4095
	0x73, 0x15, //                   2c       jae fail
	0x49, 0x8b, 0x4f, 0x40, //       2e       mov rcx,[r15+64]
	0x48, 0x85, 0xc9, //             32       test rcx,rcx
	0x74, 0x03, //                   35       jz next
	0x48, 0x89, 0x01, //             37       mov [rcx],rax
	0x49, 0x83, 0xc7, 0x50, //       3a next: add r15,80
	0x49, 0xff, 0xce, //             3e       dec r14
	0xeb, 0xbd, //                   41       jmp loop
	0x41, 0xf6, 0x47, 0x48, 0x01, // 43 fail: test byte [r15+72],1
	0x75, 0xf0, //                   48       jnz next
	0x90, 0x90, 0x90, 0x90, 0x90, 0x90, // 4a
	0x49, 0x8b, 0x3c, 0x24, //       50 end:  mov rdi,[r12]
	0x49, 0x8b, 0x74, 0x24, 0x08, // 54       mov rsi,[r12+8]
	0x49, 0x8b, 0x54, 0x24, 0x10, // 59       mov rdx,[r12+16]
	0xb8, 0xea, 0, 0, 0, //          5e       mov eax,234 (tgkill)
	0x0f, 0x05, //                   63       syscall, stops here
	0x49, 0x8b, 0x64, 0x24, 0x18, // 65       mov rsp,[r12+24]
	0xb8, 0x0f, 0, 0, 0, //          6a       mov eax,15 (rt_sigreturn)
	0x0f, 0x05, //                   6f       syscall
	0xf4, //                         71       hlt, never reached
}

// Offsets into code.
const (
	codeStopped = 0x65
	codeSyscall = 0x63 // a bare syscall instruction, for one call at a time
)

// Code returns the machine code of the batch loop; it is position
// independent.
func Code() []byte { return code }

// StubCode is what a fresh process runs until its first batch: it waits for
// something to come over the socket that is its descriptor 0, which it leaves
// there. Nothing comes before it is stopped for that batch, unless its maker
// has died: then it ends. The first system-call instruction is at StubSyscall.
//
//	xor edi, edi; lea rsi, [rsp-16]; mov edx, 1; mov r10d, MSG_PEEK
//	xor r8d, r8d; xor r9d, r9d; mov eax, SYS_recvfrom; syscall
//	xor edi, edi; mov eax, SYS_exit_group; syscall
func StubCode() []byte {
	return []byte{
		0x31, 0xff, 0x48, 0x8d, 0x74, 0x24, 0xf0, 0xba, 1, 0, 0, 0, 0x41, 0xba, 2, 0, 0, 0,
		0x45, 0x31, 0xc0, 0x45, 0x31, 0xc9, 0xb8, 45, 0, 0, 0, 0x0f, 0x05,
		0x31, 0xff, 0xb8, 231, 0, 0, 0, 0x0f, 0x05,
	}
}

// ExitCode is code that ends its process with this status (exit_group).
func ExitCode(status uint8) []byte {
	return []byte{0xbf, status, 0, 0, 0, 0xb8, 231, 0, 0, 0, 0x0f, 0x05}
}

// StubSyscall is the offset of the first system-call instruction in StubCode.
const StubSyscall = 29

// WatchCode is code that blocks the signals of a mask and waits on a socket. For
// a byte that comes it ends; when the other end is closed without one, it
// executes a program. mask, path, argv and envp are addresses.
//
//	rt_sigprocmask(SIG_SETMASK, mask, NULL, 8)
//	again: rax = recvfrom(line, rsp-16, 1, 0, NULL, NULL)
//	if eax == 1 goto exit; if eax == -EINTR goto again
//	execve(path, argv, envp); exit: exit_group(0)
func WatchCode(line byte, mask, path, argv, envp uint32) []byte {
	imm := func(op byte, v uint32) []byte { return binary.LittleEndian.AppendUint32([]byte{op}, v) }
	const movEax, movEdx, movEsi, movEdi = 0xb8, 0xba, 0xbe, 0xbf
	var again = slices.Concat(
		imm(movEdi, uint32(line)), []byte{0x48, 0x8d, 0x74, 0x24, 0xf0}, imm(movEdx, 1),
		[]byte{0x45, 0x31, 0xd2, 0x45, 0x31, 0xc0, 0x45, 0x31, 0xc9}, imm(movEax, 45), []byte{0x0f, 0x05})
	exec := slices.Concat(imm(movEdi, path), imm(movEsi, argv), imm(movEdx, envp), imm(movEax, 59), []byte{0x0f, 0x05})
	// Two comparisons and jumps of 5 bytes each are between again and exec.
	toExit, toAgain := byte(5+len(exec)), byte(-(len(again) + 10))
	return slices.Concat(
		imm(movEax, 14), imm(movEdi, 2), imm(movEsi, mask), []byte{0x31, 0xd2, 0x41, 0xba, 8, 0, 0, 0, 0x0f, 0x05},
		again, []byte{0x83, 0xf8, 1, 0x74, toExit, 0x83, 0xf8, 0xfc, 0x74, toAgain},
		exec, ExitCode(0))
}

// ELFMachine is e_machine of this CPU (EM_X86_64).
const ELFMachine = 62

// SyscallInsn is the system-call instruction.
var SyscallInsn = [...]byte{0x0f, 0x05}

// CodeSyscall is the offset of a system-call instruction in Code.
const CodeSyscall = codeSyscall

// StartBatch sets the registers so that a thread runs count entries at
// address entries, with the loop at address base and Control at control.
func StartBatch(r *Regs, base, entries, count, control uint64) {
	r.Rip, r.R15, r.R14, r.R12 = base, entries, count, control
	r.Orig_rax = ^uint64(0)
}

// BatchStopped tells whether a thread stands at the end of a batch whose loop
// is at base, and how many entries were left when it ended.
func BatchStopped(r *Regs, base uint64) (left uint64, ok bool) {
	return r.R14, r.Rip == base+codeStopped
}

// SetCall sets the registers so that the system-call instruction at insn
// makes this call.
func SetCall(r *Regs, insn, nr uint64, args [6]uint64) {
	r.Rip, r.Rax, r.Orig_rax = insn, nr, ^uint64(0)
	r.Rdi, r.Rsi, r.Rdx, r.R10, r.R8, r.R9 = args[0], args[1], args[2], args[3], args[4], args[5]
}

// Return returns the result of the system call that a thread just left.
func Return(r *Regs) int64 { return int64(r.Rax) }

// IP and SP return the instruction and stack pointers.
func IP(r *Regs) uint64 { return r.Rip }

// SP returns the stack pointer.
func SP(r *Regs) uint64 { return r.Rsp }

// SetIP moves the instruction pointer.
func SetIP(r *Regs, ip uint64) { r.Rip = ip }

// Native tells whether the registers are those of a 64-bit task.
func Native(r *Regs) bool { return r.Cs == userCS64 }

// InSyscall returns the system call that the thread was in when it stopped.
func InSyscall(r *Regs) (nr uint64, ok bool) {
	return r.Orig_rax, int64(r.Orig_rax) >= 0
}
