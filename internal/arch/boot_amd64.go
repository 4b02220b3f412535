package arch

import (
	"bytes"
	"encoding/binary"
)

// boot makes one system call where there is no arena: the call's registers
// are set by the tracer. Then it sends this thread the signal that its tracer
// stops it by. Without a tracer that signal does nothing, and the rest puts
// back the signal mask and whatever registers were changed. It touches
// neither the stack nor the flags nor the extended state, so that a signal
// may come at any time, too.
var boot = []byte{
	0x0f, 0x05, //                          00 syscall
	0x49, 0x89, 0xc0, //                    02 mov r8,rax
	0x48, 0x8b, 0x3d, 0x7c, 0, 0, 0, //     05 mov rdi,[tgid]
	0x48, 0x8b, 0x35, 0x7d, 0, 0, 0, //     0c mov rsi,[tid]
	0x48, 0x8b, 0x15, 0x7e, 0, 0, 0, //     13 mov rdx,[signal]
	0xb8, 0xea, 0, 0, 0, //                 1a mov eax,234 (tgkill)
	0x0f, 0x05, //                          1f syscall, stops here
	0xbf, 0x02, 0, 0, 0, //                 21 mov edi,2 (SIG_SETMASK)
	0x48, 0x8d, 0x35, 0x73, 0, 0, 0, //     26 lea rsi,[mask]
	0xba, 0, 0, 0, 0, //                    2d mov edx,0
	0x41, 0xba, 0x08, 0, 0, 0, //           32 mov r10d,8
	0xb8, 0x0e, 0, 0, 0, //                 38 mov eax,14 (rt_sigprocmask)
	0x0f, 0x05, //                          3d syscall
	0x48, 0x8b, 0x05, 0x62, 0, 0, 0, //     3f mov rax,[own rax]
	0x48, 0x8b, 0x0d, 0x63, 0, 0, 0, //     46 mov rcx,[own rcx]
	0x48, 0x8b, 0x15, 0x64, 0, 0, 0, //     4d mov rdx,[own rdx]
	0x48, 0x8b, 0x35, 0x65, 0, 0, 0, //     54 mov rsi,[own rsi]
	0x48, 0x8b, 0x3d, 0x66, 0, 0, 0, //     5b mov rdi,[own rdi]
	0x4c, 0x8b, 0x05, 0x67, 0, 0, 0, //     62 mov r8,[own r8]
	0x4c, 0x8b, 0x0d, 0x68, 0, 0, 0, //     69 mov r9,[own r9]
	0x4c, 0x8b, 0x15, 0x69, 0, 0, 0, //     70 mov r10,[own r10]
	0x4c, 0x8b, 0x1d, 0x6a, 0, 0, 0, //     77 mov r11,[own r11]
	0xff, 0x25, 0x6c, 0, 0, 0, //           7e jmp [own rip]
	0xf4, 0xf4, 0xf4, 0xf4, //              84
	// 88: tgid, tid, signal, mask, rax, rcx, rdx, rsi, rdi, r8, r9, r10, r11, rip
}

const (
	bootStopped = 0x21 // offset behind the call that stops
	bootData    = 0x88
	bootTID     = bootData + 8
)

// BootSize is the size of what Boot returns in bytes.
const BootSize = bootData + 14*8

// Boot returns code, with its data, by which a stopped thread makes one system
// call and goes on as it was if it has lost its tracer meanwhile: with these
// registers, which must be folded (FoldRestart), and this mask. It can stand
// at any address that is a multiple of 16; SetCall to its begin starts it.
func Boot(tgid, tid, signal uint64, r *Regs, mask uint64) []byte {
	b := append(make([]byte, 0, BootSize), boot...)
	for _, v := range [...]uint64{tgid, tid, signal, mask, r.Rax, r.Rcx, r.Rdx, r.Rsi, r.Rdi, r.R8, r.R9, r.R10, r.R11, r.Rip} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return b
}

// BootStopped tells whether a thread stands where Boot, which is at base, ends,
// and what its call returned.
func BootStopped(r *Regs, base uint64) (result int64, ok bool) {
	return int64(r.R8), r.Rip == base+bootStopped
}

// BootOf tells whether b, of BootSize bytes, is a Boot of this thread.
func BootOf(b []byte, tid uint64) bool {
	return bytes.HasPrefix(b, boot) && binary.LittleEndian.Uint64(b[bootTID:]) == tid
}
