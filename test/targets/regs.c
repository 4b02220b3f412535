// Registers: each thread loads a pattern, spins in assembly until it is let
// go on, and stores what the registers hold then.
#include "ctl.h"
#include <pthread.h>

static volatile int go[8]; // and, 16 bytes on, whether the thread spins
struct gpr { uint64_t r[14], flags; };

static void *gprs(void *arg) {
	struct gpr *out = arg;
	uint64_t seed = 0x1122334455667788;
	__asm__ volatile(
		"push %%rbp; push %%rbx; push %1; push %2\n"
		"mov %0, %%rax; lea 1(%%rax), %%rbx; lea 2(%%rax), %%rcx; lea 3(%%rax), %%rdx\n"
		"lea 4(%%rax), %%rsi; lea 5(%%rax), %%rdi; lea 6(%%rax), %%rbp; lea 7(%%rax), %%r8\n"
		"lea 8(%%rax), %%r9; lea 9(%%rax), %%r10; lea 10(%%rax), %%r11; lea 12(%%rax), %%r13\n"
		"lea 13(%%rax), %%r14; lea 14(%%rax), %%r15; mov (%%rsp), %%r12; std; stc\n"
		"movl $1, 16(%%r12); 1: jmp 2f; 2: pushf; cmpl $0, (%%r12); jne 3f; popf; jmp 1b\n"
		"3: popf; mov 8(%%rsp), %%r12\n"
		"mov %%rax, (%%r12); mov %%rbx, 8(%%r12); mov %%rcx, 16(%%r12); mov %%rdx, 24(%%r12)\n"
		"mov %%rsi, 32(%%r12); mov %%rdi, 40(%%r12); mov %%rbp, 48(%%r12); mov %%r8, 56(%%r12)\n"
		"mov %%r9, 64(%%r12); mov %%r10, 72(%%r12); mov %%r11, 80(%%r12); mov %%r13, 88(%%r12)\n"
		"mov %%r14, 96(%%r12); mov %%r15, 104(%%r12); pushf; pop %%rax; mov %%rax, 112(%%r12)\n"
		"cld; pop %2; pop %1; pop %%rbx; pop %%rbp"
		: "+a"(seed) : "D"(out), "S"(&go[0])
		: "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "memory", "cc");
	return NULL;
}

struct fpu { uint8_t x87[108], xmm[16][16]; uint32_t mxcsr; };

static void *fpus(void *arg) {
	struct fpu *out = arg;
	uint16_t cw = 0x0f3f; // round to zero, extended precision, all masked
	uint32_t mxcsr = 0xff80; // round to zero, flush to zero
	static uint8_t pat[16][16];
	for (int i = 0; i < 256; i++)
		pat[i / 16][i % 16] = i ^ 0x5a;
#define X(n) "movdqu " #n "*16(%[p]), %%xmm" #n "\n"
#define Y(n) "movdqu %%xmm" #n ", 108+" #n "*16(%[o])\n"
#define ALL(f) f(0) f(1) f(2) f(3) f(4) f(5) f(6) f(7) f(8) f(9) f(10) f(11) f(12) f(13) f(14) f(15)
	__asm__ volatile("fninit; fldcw %[cw]; fldpi; fldl2e; fld1; fldz; fldlg2; fldln2; fxch; ldmxcsr %[mx]\n"
		ALL(X) "movl $1, 16(%[g]); 1: cmpl $0, (%[g]); je 1b\n" ALL(Y)
		"fnsave (%[o]); stmxcsr 364(%[o])\n"
		:: [cw] "m"(cw), [mx] "m"(mxcsr), [p] "r"(pat), [o] "r"(out), [g] "r"(&go[1])
		: "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",
		  "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
	memset(out->x87 + 12, 0, 16); // where the last instruction was: addresses
	__asm__ volatile("ldmxcsr %0" :: "m"((uint32_t){0x1f80}));
	return NULL;
}

static uint8_t pat[32][64], avx[16][32], zmm[32][64];
static uint64_t k[8];

__attribute__((target("avx"))) static void *avxs(void *arg) {
#define L(n) "vmovdqu " #n "*64(%[p]), %%ymm" #n "\n"
#define S(n) "vmovdqu %%ymm" #n ", " #n "*32(%[o])\n"
	__asm__ volatile(ALL(L) "movl $1, 16(%[g]); 1: cmpl $0, (%[g]); je 1b\n" ALL(S) "vzeroall\n"
		:: [p] "r"(pat), [o] "r"(avx), [g] "r"(&go[2]) : "memory");
	return NULL;
}

__attribute__((target("avx512f,avx512bw"))) static void *avx512s(void *arg) {
#define LZ(n) "vmovdqu64 " #n "*64(%[p]), %%zmm" #n "\n"
#define SZ(n) "vmovdqu64 %%zmm" #n ", " #n "*64(%[o])\n"
#define HI(f) f(16) f(17) f(18) f(19) f(20) f(21) f(22) f(23) f(24) f(25) f(26) f(27) f(28) f(29) f(30) f(31)
#define LK(n) "kmovq " #n "*64(%[p]), %%k" #n "\n"
#define SK(n) "kmovq %%k" #n ", " #n "*8(%[k])\n"
#define KS(f) f(0) f(1) f(2) f(3) f(4) f(5) f(6) f(7)
	__asm__ volatile(ALL(LZ) HI(LZ) KS(LK) "movl $1, 16(%[g]); 1: cmpl $0, (%[g]); je 1b\n" ALL(SZ) HI(SZ) KS(SK) "vzeroall\n"
		:: [p] "r"(pat), [o] "r"(zmm), [g] "r"(&go[3]), [k] "r"(k) : "memory");
	return NULL;
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	static struct gpr g;
	static struct fpu f;
	for (int i = 0; i < 2048; i++)
		pat[i / 64][i % 64] = i * 13 + 1;
	int has[4] = {1, 1, __builtin_cpu_supports("avx"), __builtin_cpu_supports("avx512bw")};
	void *(*body[4])(void *) = {gprs, fpus, avxs, avx512s}, *arg[4] = {&g, &f};
	do {
		pthread_t th[4];
		for (int i = 0; i < 4; i++)
			if (go[i] = go[i + 4] = 0, has[i])
				OK(pthread_create(&th[i], NULL, body[i], arg[i]));
		for (int i = 0; i < 4; i++)
			while (has[i] && !go[i + 4])
				nanosleep(&(struct timespec){0, 1000000}, NULL);
		int more = savepoint();
		for (int i = 0; i < 4; i++)
			if (go[i] = 1, has[i])
				OK(pthread_join(th[i], NULL));
		for (int i = 0; i < 14; i++)
			obs("gpr%d %llx", i, (unsigned long long)g.r[i]);
		obs("flags %llx", (unsigned long long)g.flags & 0xcd5);
		for (int i = 0; i < 108; i += 4)
			obs("x87+%d %02x%02x%02x%02x", i, f.x87[i], f.x87[i + 1], f.x87[i + 2], f.x87[i + 3]);
		obs("xmm %llx mxcsr %x", (unsigned long long)fnv(f.xmm, sizeof f.xmm), f.mxcsr);
		obs("ymm %d %llx", has[2], (unsigned long long)fnv(avx, sizeof avx));
		obs("zmm %d %llx k %llx", has[3], (unsigned long long)fnv(zmm, sizeof zmm), (unsigned long long)fnv(k, sizeof k));
		if (!more)
			break;
	} while (1);
	savepoint();
	return 0;
}
