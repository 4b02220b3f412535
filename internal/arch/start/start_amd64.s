#include "go_asm.h"
#include "textflag.h"

#define SYS_mmap 9
#define PROT_READ 1
#define PROT_WRITE 2
#define MAP_PRIVATE 2
#define MAP_FIXED 0x10
#define MAP_ANONYMOUS 0x20
#define MAP_POPULATE 0x8000

#define SYS_write 1
#define SYS_exit_group 231
#define ENOMEM 12
#define EMFILE 24

#define SYS_close 3
#define SYS_fcntl 72
#define SYS_eventfd2 290
#define SYS_prlimit64 302
#define EFD_CLOEXEC 0x80000
#define F_DUPFD_CLOEXEC 1030
#define RLIMIT_NOFILE 7
#define RLIMIT_STACK 3

#define SYS_madvise 28
#define MADV_HUGEPAGE 14

DATA one<>+0(SB)/8, $"GOMAXPRO"
DATA one<>+8(SB)/8, $"CS=01\x00\x00\x00"
GLOBL one<>(SB), RODATA|NOPTR, $16

// toAdvise is how many chunks of the heap are still to get huge pages, from above.

// glis_start is the first instruction of the program. On the stack are argc, the
// arguments, 0, the environment, 0, and the auxiliary vector (execve(2), getauxval(3)).
// A copy of that with GOMAXPROCS=01 ahead of the environment is put below, unless the
// variable is there.
TEXT glis_start(SB), NOSPLIT|NOFRAME, $0
	CLD
	XORL DI, DI
	MOVL $RLIMIT_STACK, SI
	XORL DX, DX
	LEAQ -16(SP), R10    // struct rlimit64
	MOVL $SYS_prlimit64, AX
	SYSCALL
	TESTQ AX, AX
	JNZ  deep
	CMPQ -16(SP), $const_leastStack
	JCC  deep
	MOVQ ·noStack(SB), SI
	MOVQ ·noStack+8(SB), DX
	JMP  end<>(SB)

deep:
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
	JMP  begin

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

begin:
	CALL descriptors<>(SB)
	MOVQ $mmap<>(SB), AX
	MOVQ AX, _cgo_mmap(SB)
	MOVQ ·onWrite(SB), AX
	MOVQ AX, runtime·overrideWrite(SB)
	MOVQ $2, ·toAdvise(SB)
	XORQ DX, DX          // no function to be called at exit
	JMP  _rt0_amd64_linux(SB)

// descriptors has the descriptor table hold Descriptors of them, or as many as the hard
// limit allows: once there is a second thread, the kernel waits each time that the table
// doubles until no CPU can have the old one (RCU), up to tens of milliseconds.
TEXT descriptors<>(SB), NOSPLIT|NOFRAME, $0
	SUBQ $32, SP         // two of struct rlimit64: as it was, and the hard limit for both
	XORL DI, DI
	MOVL $RLIMIT_NOFILE, SI
	XORL DX, DX
	MOVQ SP, R10
	MOVL $SYS_prlimit64, AX
	SYSCALL
	TESTQ AX, AX
	JNZ  out
	MOVQ 8(SP), R12
	MOVQ R12, 16(SP)
	MOVQ R12, 24(SP)
	XORL DI, DI
	MOVL $RLIMIT_NOFILE, SI
	LEAQ 16(SP), DX
	XORL R10, R10
	MOVL $SYS_prlimit64, AX
	SYSCALL
	XORL DI, DI
	MOVL $EFD_CLOEXEC, SI
	MOVL $SYS_eventfd2, AX
	SYSCALL
	CMPQ AX, $-EMFILE
	JEQ  few
	TESTQ AX, AX
	JLT  limits
	MOVQ AX, R13
	ADDQ $const_fewest, AX
	CMPQ AX, R12
	JHI  few
	CMPQ R12, $const_Descriptors
	JLS  duplicate
	MOVQ $const_Descriptors, R12

duplicate:
	MOVQ R13, DI
	MOVL $F_DUPFD_CLOEXEC, SI
	LEAQ -1(R12), DX
	MOVL $SYS_fcntl, AX
	SYSCALL
	TESTQ AX, AX
	JLT  close
	MOVQ AX, DI
	MOVL $SYS_close, AX
	SYSCALL

close:
	MOVQ R13, DI
	MOVL $SYS_close, AX
	SYSCALL

limits:
	XORL DI, DI
	MOVL $RLIMIT_NOFILE, SI
	MOVQ SP, DX
	XORL R10, R10
	MOVL $SYS_prlimit64, AX
	SYSCALL

out:
	ADDQ $32, SP
	RET

few:
	MOVQ ·noDescriptors(SB), SI
	MOVQ ·noDescriptors+8(SB), DX
	JMP  end<>(SB)

// end says what is at SI, DX bytes, and has the program end with 1.
TEXT end<>(SB), NOSPLIT|NOFRAME, $0
	MOVL $2, DI
	MOVL $SYS_write, AX
	SYSCALL
	MOVL $1, DI
	MOVL $SYS_exit_group, AX
	SYSCALL
	INT  $3

// func end(text string)
TEXT ·end(SB), NOSPLIT, $0-16
	MOVQ text_base+0(FP), SI
	MOVQ text_len+8(FP), DX
	JMP  end<>(SB)

// func write(fd uintptr, p unsafe.Pointer, n int32) int32
TEXT ·write(SB), NOSPLIT, $0-28
	MOVQ fd+0(FP), DI
	MOVQ p+8(FP), SI
	MOVL n+16(FP), DX
	MOVL $SYS_write, AX
	SYSCALL
	MOVL AX, ret+24(FP)
	RET

// mmap is what the Go runtime calls for mmap(2), as it calls that of a C library for
// the sake of those who watch over memory: by the C ABI, with an errno as the result
// if it fails. The first two chunks of the heap are going to consist of huge pages,
// and a page or a few that the runtime maps for itself are found at once: of what is larger
// it touches little. Where there is no memory, the runtime would say so with all its
// goroutines.
TEXT mmap<>(SB), NOSPLIT|NOFRAME, $0
	MOVL CX, R10
	CMPQ SI, $0x4000
	JHI  map
	MOVL R10, AX
	ANDL $~MAP_FIXED, AX
	CMPL AX, $(MAP_PRIVATE|MAP_ANONYMOUS)
	JNE  map
	CMPL DX, $(PROT_READ|PROT_WRITE)
	JNE  map
	ORL  $MAP_POPULATE, R10

map:
	MOVL $SYS_mmap, AX
	SYSCALL
	CMPQ AX, $-4095
	JCC  failed
	CMPQ SI, $0x400000
	JNE  done
	CMPL R10, $(MAP_PRIVATE|MAP_FIXED|MAP_ANONYMOUS)
	JNE  done
	CMPL DX, $(PROT_READ|PROT_WRITE)
	JNE  done
	SUBQ $1, ·toAdvise(SB)
	JLT  done
	MOVQ AX, R8
	MOVQ AX, DI
	MOVL $MADV_HUGEPAGE, DX
	MOVL $SYS_madvise, AX
	SYSCALL
	MOVQ R8, AX

done:
	RET

failed:
	NEGQ AX
	CMPQ AX, $ENOMEM
	JEQ  none
	RET

none:
	MOVQ ·noMemory(SB), SI
	MOVQ ·noMemory+8(SB), DX
	JMP  end<>(SB)

// func madvise(at, size, advice uintptr) int
TEXT ·madvise(SB), NOSPLIT, $0-32
	MOVQ at+0(FP), DI
	MOVQ size+8(FP), SI
	MOVQ advice+16(FP), DX
	MOVQ $SYS_madvise, AX
	SYSCALL
	MOVQ AX, ret+24(FP)
	RET

// func Later(chunks int)
TEXT ·Later(SB), NOSPLIT, $0-8
	MOVQ chunks+0(FP), AX
	MOVQ AX, ·toAdvise(SB)
	RET
