#include "textflag.h"

// A handler of a signal; DX is its struct ucontext. If the thread is about to seize
// another one (PTRACE_SEIZE), as it is when that waited and the kernel would have it wait
// again, then it has failed with EINTR instead.
TEXT endSeize<>(SB), NOSPLIT|NOFRAME, $0
	CMPQ 144(DX), $101 // rax: ptrace
	JNE  out
	CMPQ 104(DX), $0x4206 // rdi: PTRACE_SEIZE
	JNE  out
	MOVQ 168(DX), AX // rip
	CMPW 0(AX), $0x050f // syscall
	JNE  out
	ADDQ $2, 168(DX)
	MOVQ $-4, 144(DX) // EINTR
out:
	RET

// func EndSeize() (handler uintptr)
TEXT ·EndSeize(SB), NOSPLIT, $0-8
	LEAQ endSeize<>(SB), AX
	MOVQ AX, handler+0(FP)
	RET
