#include "textflag.h"

// A handler of a signal, whose number is in DI.
TEXT tell<>(SB), NOSPLIT|NOFRAME, $0
	PUSHQ DI
	MOVL ·told(SB), DI
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

// func teller() (handler, restorer uintptr)
TEXT ·teller(SB), NOSPLIT, $0-16
	LEAQ tell<>(SB), AX
	MOVQ AX, handler+0(FP)
	LEAQ back<>(SB), AX
	MOVQ AX, restorer+8(FP)
	RET
