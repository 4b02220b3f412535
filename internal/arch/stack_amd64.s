#include "textflag.h"

// func deep(advice int)
//
// The frame, with what a frame needs besides, fits into 32 MiB.
TEXT ·deep(SB), 0, $33488896-8
	MOVQ SP, DI
	ADDQ $4095, DI
	ANDQ $~4095, DI
	MOVQ $(33488896-4096), SI
	MOVQ advice+0(FP), DX
	MOVL $28, AX // madvise
	SYSCALL
	RET
