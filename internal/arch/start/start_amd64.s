#include "textflag.h"

#define SYS_madvise 28
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23

DATA one<>+0(SB)/8, $"GOMAXPRO"
DATA one<>+8(SB)/8, $"CS=01\x00\x00\x00"
GLOBL one<>(SB), RODATA|NOPTR, $16

// glis_start is the first instruction of the program. On the stack are argc, the
// arguments, 0, the environment, 0, and the auxiliary vector (execve(2), getauxval(3)).
// A copy of that with GOMAXPROCS=01 ahead of the environment is put below, unless the
// variable is there.
TEXT glis_start(SB), NOSPLIT|NOFRAME, $0
	CLD
	MOVQ (SP), CX
	ADDQ $2, CX          // words up to the environment
	LEAQ (SP)(CX*8), SI
	MOVQ $one<>(SB), R9
	MOVQ (R9), R8
	MOVQ $0x3d5343, R10  // "CS="

variable:
	MOVQ (SI), AX
	ADDQ $8, SI
	TESTQ AX, AX
	JZ   vector
	CMPQ (AX), R8
	JNE  variable
	MOVL 8(AX), DX
	ANDL $0xffffff, DX
	CMPL DX, R10
	JNE  variable
	JMP  populate

vector:
	MOVQ (SI), AX        // AT_NULL ends it
	ADDQ $16, SI
	TESTQ AX, AX
	JNZ  vector

	MOVQ SI, DX
	SUBQ SP, DX
	MOVQ SP, DI
	SUBQ DX, DI
	SUBQ $8, DI
	ANDQ $~15, DI        // as execve(2) has it
	MOVQ SP, SI
	MOVQ DI, SP
	SHRQ $3, DX
	SUBQ CX, DX          // words from the environment on
	REP; MOVSQ
	MOVQ R9, (DI)
	ADDQ $8, DI
	MOVQ DX, CX
	REP; MOVSQ

populate:
	// What fails costs time only.
	MOVQ $runtime·noptrdata(SB), DI
	ANDQ $~4095, DI
	MOVQ $runtime·end(SB), SI
	SUBQ DI, SI
	MOVQ $MADV_POPULATE_WRITE, DX
	MOVQ $SYS_madvise, AX
	SYSCALL
	MOVQ $runtime·noptrdata(SB), SI
	ANDQ $~4095, SI
	MOVQ $runtime·text(SB), DI
	ANDQ $~4095, DI
	SUBQ DI, SI
	MOVQ $MADV_POPULATE_READ, DX
	MOVQ $SYS_madvise, AX
	SYSCALL
	XORQ DX, DX          // no function to be called at exit
	JMP  _rt0_amd64_linux(SB)

// func madvise(at, size, advice uintptr) int
TEXT ·madvise(SB), NOSPLIT, $0-32
	MOVQ at+0(FP), DI
	MOVQ size+8(FP), SI
	MOVQ advice+16(FP), DX
	MOVQ $SYS_madvise, AX
	SYSCALL
	MOVQ AX, ret+24(FP)
	RET
