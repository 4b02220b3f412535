// Spins inside a restartable sequence, and again whenever it was aborted.
#include <linux/rseq.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/rseq.h>

int main(void) {
	struct rseq *r = (struct rseq *)((char *)__builtin_thread_pointer() + __rseq_offset);
	printf("ready\n");
	fflush(stdout);
	for (;;) {
		__asm__ volatile goto(
			".pushsection __rseq_cs, \"aw\"\n"
			".balign 32\n"
			"3: .long 0, 0\n.quad 1f, 2f - 1f, 4f\n"
			".popsection\n"
			"leaq 3b(%%rip), %%rax\n"
			"movq %%rax, %0\n"
			"1: pause; jmp 1b\n"
			"2:\n"
			".pushsection __rseq_failure, \"ax\"\n"
			".long 0x53053053\n"
			"4: jmp %l1\n"
			".popsection\n"
			:: "m"(r->rseq_cs) : "rax", "memory" : again);
	again:;
	}
}
