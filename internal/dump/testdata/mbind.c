// Has a NUMA policy for all of its memory, for a part, both or none, as the argument says, and
// says where the part is. Ends when its input does.
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { PREFERRED = 1, BIND = 2 }; // MPOL_*

int main(int argc, char **argv)
{
	unsigned long node = 1;
	const char *how = argc > 1 ? argv[1] : "none";
	if (!strcmp(how, "all") || !strcmp(how, "both"))
		if (syscall(SYS_set_mempolicy, PREFERRED, &node, 64UL))
			return 1;
	char *p = mmap(NULL, 16384, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return 1;
	p[4096] = 1;
	if (!strcmp(how, "part") || !strcmp(how, "both"))
		if (syscall(SYS_mbind, p + 4096, 4096UL, BIND, &node, 64UL, 0UL))
			return 1;
	printf("%lx\n", (unsigned long)(p + 4096));
	fflush(stdout);
	char c;
	return read(0, &c, 1) != 0;
}
