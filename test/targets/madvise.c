// What madvise and mlock left on mappings, as the kernel shows it.
#include "ctl.h"

static struct { const char *name; int advice; } kinds[] = {
	{"dontfork", MADV_DONTFORK}, {"dontdump", MADV_DONTDUMP}, {"wipeonfork", MADV_WIPEONFORK},
	{"hugepage", MADV_HUGEPAGE}, {"nohugepage", MADV_NOHUGEPAGE}, {"mergeable", MADV_MERGEABLE},
	{"sequential", MADV_SEQUENTIAL}, {"random", MADV_RANDOM}, {"mlock", -1}, {"noreserve", -3}, {"onfault", -2}};

static void flags(const char *name, void *p) {
	char line[512], want[32];
	int mine = 0;
	snprintf(want, sizeof want, "%lx-", (unsigned long)p);
	FILE *f = fopen("/proc/self/smaps", "re");
	MUST(f);
	while (fgets(line, sizeof line, f)) {
		if (strstr(line, "-p ") || strstr(line, "p 0"))
			mine = !strncmp(line, want, strlen(want));
		if (mine && !strncmp(line, "VmFlags", 7))
			for (char *w = strtok(line + 8, " \n"); w; w = strtok(NULL, " \n"))
				if (strcmp(w, "sd") && strcmp(w, "ac")) // soft-dirty, accountable
					obs("%s %s", name, w);
		if (mine && !strncmp(line, "Locked", 6))
			obs("%s %s", name, strtok(line, "\n"));
	}
	fclose(f);
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	int n = atoi(argv[1]); // how many of them
	char *m[16];
	for (int i = 0; i < n; i++) {
		m[i] = CHECK(mmap(NULL, 16384, PROT_READ | PROT_WRITE,
		                  MAP_PRIVATE | MAP_ANONYMOUS | (kinds[i].advice == -3 ? MAP_NORESERVE : 0), -1, 0));
		// A hole below each one keeps neighbours from merging.
		CHECK(mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
		m[i][0] = 1;
		if (kinds[i].advice >= 0)
			CHECK(madvise(m[i], 16384, kinds[i].advice));
		else if (kinds[i].advice != -3)
			CHECK(mlock2(m[i], 16384, kinds[i].advice == -2 ? MLOCK_ONFAULT : 0));
	}
	// Locked as well, though there is nothing to be found behind the end of the file.
	int fd = CHECK(memfd_create("short", 0));
	CHECK(ftruncate(fd, 4096));
	char *beyond = CHECK(mmap(NULL, 16384, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0));
	if (!mlock(beyond, 16384))
		die("memory behind the end of a file was found");
	do {
		for (int i = 0; i < n; i++)
			flags(kinds[i].name, m[i]);
		flags("beyond", beyond);
	} while (savepoint());
	return 0;
}
