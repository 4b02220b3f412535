// Has memory of every sort, says so by the file named in argv[1], and waits.
// With a second argument it forks that many children before, each of which
// changes a page of its own, drops one and waits too.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { P = 4096, RW = PROT_READ | PROT_WRITE, PRIV = MAP_PRIVATE | MAP_ANONYMOUS };

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif
#ifndef MAP_DROPPABLE
#define MAP_DROPPABLE 8
#endif
#ifndef SYS_mseal
#define SYS_mseal 462
#endif

static char *map(int pages, int prot, int flags, int fd) {
	char *p = mmap(NULL, pages * P, prot, flags, fd, 0);
	if (p == MAP_FAILED) {
		perror("mmap");
		exit(1);
	}
	return p;
}

static void fill(char *p, int pages, int seed) {
	for (int i = 0; i < pages * P; i += 8)
		*(long *)(p + i) = (long)seed * 1000003 + i;
}

int main(int argc, char **argv) {
	char *big = map(600, RW, PRIV, -1);
	fill(big, 500, 1);
	for (int i = 300; i < 400; i += 2)
		madvise(big + i * P, P, MADV_DONTNEED);
	volatile char zero = big[550 * P];
	(void)zero;

	char *none = map(20, RW, PRIV, -1);
	fill(none, 9, 2);
	mprotect(none, 20 * P, PROT_NONE);
	char *ro = map(3, RW, PRIV, -1);
	fill(ro, 2, 3);
	mprotect(ro, 3 * P, PROT_READ);

	char *grow = map(4, RW, PRIV | MAP_GROWSDOWN, -1);
	fill(grow + P, 3, 4);
	fill(map(4, RW, PRIV | MAP_NORESERVE, -1), 1, 5);
	// Locking again what was locked before a fork unshares it.
	if (argc == 2)
		fill(map(4, RW, PRIV | MAP_LOCKED, -1), 1, 6);
	char *onfault = map(8, RW, PRIV, -1);
	mlock2(onfault, 8 * P, MLOCK_ONFAULT);
	fill(onfault, 1, 7);

	int advice[] = {MADV_DONTFORK, MADV_WIPEONFORK, MADV_DONTDUMP, MADV_NOHUGEPAGE, MADV_HUGEPAGE, MADV_SEQUENTIAL, MADV_RANDOM, MADV_MERGEABLE};
	for (unsigned i = 0; i < sizeof advice / sizeof *advice; i++) {
		char *p = map(4, RW, PRIV, -1);
		map(1, PROT_NONE, PRIV, -1); // keeps them apart
		fill(p, 2, 10 + i);
		madvise(p, 4 * P, advice[i]);
	}
	char *guarded = map(6, RW, PRIV, -1);
	fill(guarded, 6, 20);
	madvise(guarded + 2 * P, P, MADV_GUARD_INSTALL);

	char *sealed = map(2, RW, PRIV, -1);
	fill(sealed, 1, 32);
	syscall(SYS_mseal, sealed, 2 * P, 0);
	mmap(NULL, 2 * P, RW, MAP_DROPPABLE | MAP_ANONYMOUS, -1, 0);

	int fd = open("file", O_RDWR | O_CREAT, 0600);
	fill(map(1, RW, PRIV, -1), 1, 21);
	if (ftruncate(fd, 8 * P))
		return 1;
	fill(map(8, RW, MAP_SHARED, fd), 3, 22);
	char *priv = map(8, RW, MAP_PRIVATE, fd);
	fill(priv + P, 1, 23);
	map(8, PROT_READ, MAP_PRIVATE, fd);
	close(fd);
	fd = open("file", O_RDONLY);
	map(8, PROT_READ, MAP_SHARED, fd);
	close(fd);

	char *shared = map(8, RW, MAP_SHARED | MAP_ANONYMOUS, -1);
	fill(shared, 3, 24);
	fd = memfd_create("some", 0);
	if (ftruncate(fd, 6 * P))
		return 1;
	fill(map(6, RW, MAP_SHARED, fd), 2, 25);
	fill(map(6, RW, MAP_PRIVATE, fd), 1, 26);
	close(fd);
	fd = open("/dev/zero", O_RDWR);
	fill(map(3, RW, MAP_PRIVATE, fd), 1, 27);
	close(fd);

	char *named = map(4, RW, PRIV, -1);
	fill(named, 1, 28);
	prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, named, 4 * P, "a name");
	fill((char *)(((long)sbrk(10 * P) + P - 1) & -P), 5, 29);

	int children = argc > 2 ? atoi(argv[2]) : 0;
	for (int i = 0; i < children; i++)
		if (fork() == 0) {
			prctl(PR_SET_PDEATHSIG, 9);
			fill(big + i * P, 1, 100 + i);
			madvise(big + (50 + i) * P, P, MADV_DONTNEED);
			fill(big + 520 * P, 1, 30);
			if (i == 0)
				munmap(ro, 3 * P);
			if (i == 1)
				mprotect(ro, 3 * P, RW), fill(ro, 1, 31);
			if (i == 0 && fork() == 0) {
				prctl(PR_SET_PDEATHSIG, 9);
				fill(big + 7 * P, 1, 200);
			}
			break;
		}
	fd = open(argv[1], O_WRONLY | O_APPEND);
	if (write(fd, "x", 1) != 1)
		return 1;
	close(fd);
	for (;;)
		pause();
}
