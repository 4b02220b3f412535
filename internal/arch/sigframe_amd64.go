package arch

import (
	"encoding/binary"
	"math/bits"
)

// Layout of the user part of a signal frame, arch/x86/include/uapi/asm/
// sigcontext.h and asm/ucontext.h: rt_sigreturn(2) finds it 8 bytes below the
// stack pointer.
const (
	frameUcontext = 8
	ucMcontext    = 40
	mcFpstate     = 184
	ucSigmask     = ucMcontext + 256
	frameSize     = frameUcontext + ucSigmask + 8
	ucFlags       = 0x1 | 0x2 | 0x4 // UC_FP_XSTATE, UC_SIGCONTEXT_SS, UC_STRICT_RESTORE_SS
)

// XSAVE facts, arch/x86/include/uapi/asm/sigcontext.h and the SDM.
const (
	fpMagic1    = 0x46505853
	fpMagic2    = 0x46505845
	swBytesOff  = 464 // struct _fpx_sw_bytes; ptrace(2) keeps xcr0 there
	xsaveHeader = 512
	xsaveMin    = 576
	fxsaveSize  = 512
)

// SigFrameSize returns the room that SigFrame needs for this extended state,
// in bytes, alignment included.
func SigFrameSize(xstate []byte) int { return 64 + (frameSize+63)&^63 + len(xstate) + 64 }

// SigFrame writes into buf, which is at address at in the task, the frame
// from which rt_sigreturn(2) resumes with these registers, mask and extended
// state (NT_X86_XSTATE, may be cut after its last component in use). It
// returns the stack pointer to call rt_sigreturn with. The registers must be
// folded (FoldRestart) first.
func SigFrame(buf []byte, at uint64, r *Regs, mask uint64, xstate []byte) (sp uint64) {
	le := binary.LittleEndian
	start := (at+63)&^63 - at
	fp := start + (frameSize+63)&^63
	f := buf[start:]
	le.PutUint64(f[frameUcontext:], ucFlags)
	// uc_stack stays zero: the kernel finds it too small and keeps the
	// alternate stack as it is.
	m := f[frameUcontext+ucMcontext:]
	for i, v := range [...]uint64{r.R8, r.R9, r.R10, r.R11, r.R12, r.R13, r.R14, r.R15, r.Rdi, r.Rsi, r.Rbp, r.Rbx, r.Rdx, r.Rax, r.Rcx, r.Rsp, r.Rip, r.Eflags} {
		le.PutUint64(m[8*i:], v)
	}
	le.PutUint16(m[144:], uint16(r.Cs))
	le.PutUint16(m[150:], uint16(r.Ss))
	le.PutUint64(f[frameUcontext+ucSigmask:], mask)
	if len(xstate) >= xsaveMin {
		le.PutUint64(m[mcFpstate:], at+fp)
		putXState(buf[fp:], xstate)
	}
	return at + start + 8
}

// putXState writes the extended state as the kernel expects it in a frame.
func putXState(b, xstate []byte) {
	le := binary.LittleEndian
	n := copy(b, xstate)
	xcr0 := le.Uint64(xstate[swBytesOff:])
	le.PutUint32(b[swBytesOff:], fpMagic1)
	le.PutUint32(b[swBytesOff+4:], uint32(n+4))
	le.PutUint64(b[swBytesOff+8:], xcr0)
	le.PutUint32(b[swBytesOff+16:], uint32(n))
	le.PutUint32(b[n:], fpMagic2)
}

// Where the kernel's frame of a handler (struct rt_sigframe) has what, from its
// instruction pointer on.
const (
	fromIPCs    = 16
	fromIPMask  = ucSigmask - ucMcontext - 8*16
	fromIPSigno = fromIPMask + 8
	fromIPEnd   = fromIPSigno + 4
)

// FrameLeadsTo tells whether among what is on a stack, from an address that is a
// multiple of 8 on, is the frame of a handler that returns to [start,end). mask is
// what the thread blocks: what it blocked before, and the signal that is handled. Where
// it does not, the frame is what an earlier handler has left.
func FrameLeadsTo(stack []byte, start, end, mask uint64) bool {
	le := binary.LittleEndian
	for ; len(stack) >= fromIPEnd; stack = stack[8:] {
		ip, before := le.Uint64(stack), le.Uint64(stack[fromIPMask:])
		if ip < start || ip >= end || le.Uint16(stack[fromIPCs:]) != userCS64 || before&^mask != 0 {
			continue
		}
		handled := le.Uint32(stack[fromIPSigno:]) - 1
		const ofOurs = 60 // what our code blocks is all but a few (and a handler need not block its own: SA_NODEFER)
		if bits.OnesCount64(before) >= ofOurs || handled < 64 && mask>>handled&1 != 0 {
			return true
		}
	}
	return false
}
