// A child advises of memory that it has from its parent the opposite of what the parent does.
#include "ctl.h"

static struct { int its, own; char *at; } all[] = {
	{MADV_RANDOM, MADV_SEQUENTIAL, NULL}, {MADV_SEQUENTIAL, MADV_RANDOM, NULL}, {MADV_SEQUENTIAL, MADV_NORMAL, NULL},
	{MADV_NORMAL, MADV_RANDOM, NULL}, {MADV_HUGEPAGE, MADV_NOHUGEPAGE, NULL}, {MADV_NOHUGEPAGE, MADV_HUGEPAGE, NULL}};
enum { N = sizeof all / sizeof *all, PAGE = 4096 };

static void show(void) {
	char line[512], want[32];
	int mine = -1;
	FILE *f = fopen("/proc/self/smaps", "re");
	MUST(f);
	while (fgets(line, sizeof line, f)) {
		for (int i = 0; i < N; i++)
			if (sprintf(want, "%lx-", (unsigned long)all[i].at), !strncmp(line, want, strlen(want)))
				mine = i;
		if (mine < 0 || strncmp(line, "VmFlags", 7))
			continue;
		for (char *w = strtok(line + 8, " \n"); w; w = strtok(NULL, " \n"))
			if (!strcmp(w, "sr") || !strcmp(w, "rr") || !strcmp(w, "hg") || !strcmp(w, "nh"))
				obs("%d %s", mine, w);
		mine = -1;
	}
	fclose(f);
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	char *room = CHECK(mmap(NULL, 3 * N * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	for (int i = 0; i < N; i++) {
		all[i].at = room + (3 * i + 1) * PAGE;
		CHECK(mprotect(all[i].at, PAGE, PROT_READ | PROT_WRITE));
		*all[i].at = i + 1;
		CHECK(madvise(all[i].at, PAGE, all[i].its));
	}
	ctl_party("child");
	pid_t child = CHECK(fork());
	if (!child) {
		ctl_child("child");
		for (int i = 0; i < N; i++)
			CHECK(madvise(all[i].at, PAGE, all[i].own));
	}
	do
		show();
	while (savepoint());
	if (child)
		reap(child);
	return 0;
}
