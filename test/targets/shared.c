// Memory shared between parent and child: anonymous, a file's, a memfd's, also
// mapped twice, at an offset, read-only, and after the child or the parent unmapped a
// part.
#include "ctl.h"

struct page { volatile uint64_t mine[512]; };
static struct page *anon, *half, *file, *mem, *again, *less;

// mappings counts those that are, with a part at least, in eight pages.
static int mappings(struct page *p) {
	FILE *f = fopen("/proc/self/maps", "re");
	uintptr_t at = (uintptr_t)p, from, to;
	int n = 0;
	for (char line[4400]; f && fgets(line, sizeof line, f);)
		n += sscanf(line, "%lx-%lx", &from, &to) == 2 && from < at + 8 * 4096 && to > at;
	if (f)
		fclose(f);
	return n;
}

static void look(int me) {
	int him = !me, round = 0;
	do {
		// Each writes its own words and waits for the other's: a copy would hang.
		round++;
		anon[3].mine[me] = file[1].mine[me] = mem[2].mine[me] = round;
		while (anon[3].mine[him] < round || file[1].mine[him] < round || mem[2].mine[him] < round)
			nanosleep(&(struct timespec){0, 1000000}, NULL);
		obs("round %d again %d half %d", round, (int)again[2].mine[me], (int)half[1].mine[7]);
		obs("=at %p %p %p %p %p", anon, half, file, mem, again);
		obs("less in %d mappings, %d", mappings(less), (int)less[5].mine[7]);
		while (anon[3].mine[him + 2] + 1 < round) // both have looked
			nanosleep(&(struct timespec){0, 1000000}, NULL);
		anon[3].mine[me + 2] = round;
	} while (savepoint());
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	anon = CHECK(mmap(NULL, 8 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
	half = CHECK(mmap(NULL, 8 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
	half[1].mine[7] = half[6].mine[7] = 77;
	less = CHECK(mmap(NULL, 8 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
	less[5].mine[7] = less[7].mine[7] = 78;
	int fd = CHECK(open("shared", O_RDWR | O_CREAT | O_CLOEXEC, 0600));
	CHECK(ftruncate(fd, 4 * 4096));
	file = CHECK(mmap(NULL, 4 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
	close(fd);
	fd = CHECK(memfd_create("glis memory", MFD_ALLOW_SEALING | MFD_CLOEXEC));
	CHECK(ftruncate(fd, 4 * 4096));
	mem = CHECK(mmap(NULL, 4 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
	again = CHECK(mmap(NULL, 4 * 4096, PROT_READ, MAP_SHARED, fd, 0));
	ctl_party("child");
	pid_t pid = CHECK(fork());
	if (pid == 0) {
		ctl_child("child");
		CHECK(munmap(half, 4096));
		CHECK(munmap(half + 5, 3 * 4096));
		look(1);
		_exit(0);
	}
	CHECK(munmap(less, 4096));
	CHECK(munmap(less + 6, 2 * 4096));
	look(0);
	reap(pid);
	obs("half %d", (int)half[6].mine[7]);
	uint64_t back[4];
	CHECK(pread(fd, back, sizeof back, 2 * 4096));
	obs("memfd reads %d", (int)back[0]);
	fd = CHECK(open("shared", O_RDONLY));
	CHECK(pread(fd, back, sizeof back, 4096));
	obs("file reads %d", (int)back[1]);
	savepoint();
	return 0;
}
