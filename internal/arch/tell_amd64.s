#include "textflag.h"

// A handler of a signal, whose number is in DI.
TEXT heard<>(SB), NOSPLIT|NOFRAME, $0
	PUSHQ DI
	MOVL told<>(SB), DI
	MOVQ SP, SI
	MOVL $1, DX
	MOVL $1, AX // write
	SYSCALL
	POPQ DI
	RET

// What a handler returns to.
TEXT back<>(SB), NOSPLIT|NOFRAME, $0
	MOVL $15, AX // rt_sigreturn
	SYSCALL
	INT  $3

// func tell(to int32) (handler, restorer uintptr)
TEXT ·tell(SB), NOSPLIT, $0-24
	MOVL to+0(FP), AX
	MOVL AX, told<>(SB)
	LEAQ heard<>(SB), AX
	MOVQ AX, handler+8(FP)
	LEAQ back<>(SB), AX
	MOVQ AX, restorer+16(FP)
	RET

// The descriptor that the handler writes to.
GLOBL told<>(SB), NOPTR, $4
