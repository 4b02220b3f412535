// A process that has unmapped the kernel's code (vdso), but not its data, as valgrind
// does, and has memory of its own in its place; and a child of it.
#include "vdsomaps.h"
#include <sys/auxv.h>
#include <sys/wait.h>

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	char *code = (void *)getauxval(AT_SYSINFO_EHDR);
	MUST(code);
	FILE *f = fopen("/proc/self/maps", "re");
	MUST(f);
	char line[512];
	unsigned long start = 0, end = 0;
	while (fgets(line, sizeof line, f))
		if (strstr(line, "[vdso]"))
			MUST(sscanf(line, "%lx-%lx", &start, &end) == 2);
	fclose(f);
	MUST(start == (unsigned long)code);
	CHECK(munmap(code, end - start));
	MUST(mmap(code, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == code);
	strcpy(code, "its own");
	ctl_party("child");
	pid_t child = CHECK(fork());
	if (!child)
		ctl_child("child");
	do {
		maps();
		obs("%s: %s", child ? "parent" : "child", code);
		struct timespec now;
		CHECK(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now));
	} while (savepoint());
	if (child)
		CHECK(waitpid(child, NULL, 0));
	return 0;
}
