// Memory that is locked as soon as it is mapped (mlockall(2) with MCL_FUTURE),
// at once or when it is used.
#include "ctl.h"

// flags says which locks a new mapping has.
static void flags(void *p) {
	char line[512], want[32];
	int mine = 0;
	snprintf(want, sizeof want, "%lx-", (unsigned long)p);
	FILE *f = fopen("/proc/self/smaps", "re");
	MUST(f);
	while (fgets(line, sizeof line, f)) {
		if (strstr(line, "-p ") || strstr(line, "p 0"))
			mine = !strncmp(line, want, strlen(want));
		if (mine && !strncmp(line, "VmFlags", 7))
			obs("new: lo %d lf %d", !!strstr(line, " lo"), !!strstr(line, " lf"));
	}
	fclose(f);
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	CHECK(mlockall(atoi(argv[1])));
	char *hole = CHECK(mmap(NULL, 3 * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
	do {
		unsigned char there = 0;
		char *p = CHECK(mmap(hole + 4096, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
		CHECK(mincore(p, 4096, &there));
		obs("there %d", there & 1);
		flags(p);
	} while (savepoint());
	return 0;
}
