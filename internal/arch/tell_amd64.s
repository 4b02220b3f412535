#include "textflag.h"

// A handler of a signal, whose number is in DI.
TEXT heard<>(SB), NOSPLIT|NOFRAME, $0
	LOCK
	INCL writing<>(SB)
	MOVL told<>(SB), AX
	TESTL AX, AX
	JLT  late
	PUSHQ DI
	MOVL AX, DI
	MOVQ SP, SI
	MOVL $1, DX
	MOVL $1, AX // write
	SYSCALL
	POPQ DI
	LOCK
	DECL writing<>(SB)
	RET

	// Nobody is told any more: it comes again, and does what it does by now.
late:
	LOCK
	DECL writing<>(SB)
	MOVL DI, SI
	MOVL $39, AX // getpid
	SYSCALL
	MOVL AX, DI
	MOVL $62, AX // kill
	SYSCALL
	RET

// What a handler returns to.
TEXT back<>(SB), NOSPLIT|NOFRAME, $0
	MOVL $15, AX // rt_sigreturn
	SYSCALL
	INT  $3

// func tell(to int32) (handler uintptr)
TEXT ·tell(SB), NOSPLIT, $0-16
	MOVL to+0(FP), AX
	XCHGL AX, told<>(SB) // and no other access is moved across it
	LEAQ heard<>(SB), AX
	MOVQ AX, handler+8(FP)
	RET

// func Telling() bool
TEXT ·Telling(SB), NOSPLIT, $0-1
	CMPL writing<>(SB), $0
	SETNE ret+0(FP)
	RET

// func Restorer() uintptr
TEXT ·Restorer(SB), NOSPLIT, $0-8
	LEAQ back<>(SB), AX
	MOVQ AX, ret+0(FP)
	RET

// The descriptor that the handler writes to, and how many threads are about to.
GLOBL told<>(SB), NOPTR, $4
GLOBL writing<>(SB), NOPTR, $4
