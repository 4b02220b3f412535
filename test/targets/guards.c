// Guard regions (MADV_GUARD_INSTALL, Linux 6.13): pages of a mapping that may not be
// touched, at its head, in its midst, in memory that nobody has touched, and one that was
// taken away again.
#include "ctl.h"
#include <sys/mman.h>

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif

#define PAGES 32
enum { PAGE = 4096 };

static int out[2];

// touch tells whether a page may be read, without a signal if not.
static char touch(char *p) {
	char c;
	if (write(out[1], p, 1) != 1) {
		MUST(errno == EFAULT);
		return '-';
	}
	MUST(read(out[0], &c, 1) == 1);
	return c ? c : '0';
}

static void show(const char *what, char *at) {
	char line[PAGES + 1] = "";
	for (int i = 0; i < PAGES; i++)
		line[i] = touch(at + i * PAGE);
	obs("%s %s", what, line);
}

// told tells whether the kernel says of a mapping that there may be guard regions in it.
static int told(char *at) {
	char line[512], want[32];
	int mine = 0, says = 0;
	sprintf(want, "%lx-", (unsigned long)at);
	FILE *f = fopen("/proc/self/smaps", "re");
	MUST(f);
	while (fgets(line, sizeof line, f)) {
		if (!strncmp(line, want, strlen(want)))
			mine = 1;
		if (mine && !strncmp(line, "VmFlags", 7))
			says = strstr(line, " gu") != NULL, mine = 0;
	}
	fclose(f);
	return says;
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	CHECK(pipe(out));
	char *full = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *fresh = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	MUST(full != MAP_FAILED && fresh != MAP_FAILED);
	for (int i = 0; i < PAGES; i++)
		full[i * PAGE] = 'a' + i % 26;
	CHECK(madvise(full, 2 * PAGE, MADV_GUARD_INSTALL));
	CHECK(madvise(full + 10 * PAGE, 3 * PAGE, MADV_GUARD_INSTALL));
	CHECK(madvise(full + 31 * PAGE, PAGE, MADV_GUARD_INSTALL));
	CHECK(madvise(full + 20 * PAGE, 4 * PAGE, MADV_GUARD_INSTALL));
	CHECK(madvise(full + 21 * PAGE, PAGE, MADV_GUARD_REMOVE));
	CHECK(madvise(fresh + 5 * PAGE, PAGE, MADV_GUARD_INSTALL));
	int file = CHECK(open("guarded", O_RDWR | O_CREAT, 0600));
	CHECK(ftruncate(file, PAGES * PAGE));
	char *shared = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	char *anon = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	MUST(shared != MAP_FAILED && anon != MAP_FAILED);
	for (int i = 0; i < PAGES; i++)
		shared[i * PAGE] = anon[i * PAGE] = 'A' + i % 26;
	CHECK(madvise(shared + 3 * PAGE, 2 * PAGE, MADV_GUARD_INSTALL));
	CHECK(madvise(anon + 7 * PAGE, 2 * PAGE, MADV_GUARD_INSTALL));
	// Locked over a guard region: what is behind it can't be found, but it is locked.
	char *locked = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	MUST(locked != MAP_FAILED);
	locked[0] = 'l';
	CHECK(madvise(locked + 2 * PAGE, PAGE, MADV_GUARD_INSTALL));
	MUST(mlock(locked, PAGES * PAGE) == -1 && errno == ENOMEM);
	// So large that it is looked through only if the kernel says so.
	enum { LARGE = 80 << 20 };
	char *large = mmap(NULL, LARGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	MUST(large != MAP_FAILED);
	large[LARGE / 2] = 'L';
	CHECK(madvise(large + LARGE / 2 + 5 * PAGE, 2 * PAGE, MADV_GUARD_INSTALL));
	int known = told(large);
	char *droppable = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, 0x08 /* MAP_DROPPABLE, Linux 6.11 */ | MAP_ANONYMOUS, -1, 0);
	if (droppable != MAP_FAILED)
		CHECK(madvise(droppable + 6 * PAGE, 2 * PAGE, MADV_GUARD_INSTALL));
	do {
		if (droppable != MAP_FAILED)
			show("droppable", droppable);
		if (known)
			show("large", large + LARGE / 2);
		show("locked", locked);
		MUST(madvise(locked + 9 * PAGE, PAGE, MADV_DONTNEED) == -1 && errno == EINVAL); // it is locked
		show("shared file", shared);
		show("shared", anon);
		show("full", full);
		show("fresh", fresh);
	} while (savepoint());
	return 0;
}
