// Huge pages: private ones, with and without a reservation, with a protected
// part, inherited by a child, shared anonymous ones, memfds with holes and seals,
// private mappings of those; with "more" System V shared memory.
#include "ctl.h"
#include <sys/ipc.h>
#include <sys/shm.h>

enum { HUGE = 2 << 20 };
static char *own, *loose, *both, *mapped, *cow, *segment;
static int fd, id = -1;

// vma notes what smaps says of the mapping at p.
static void vma(const char *name, const void *p) {
	char line[512], want[32], page[64] = "", flags[512] = "", prot[8] = "", path[256] = "";
	FILE *f = fopen("/proc/self/smaps", "re");
	int found = 0;
	snprintf(want, sizeof want, "%lx-", (long)p);
	while (fgets(line, sizeof line, f)) {
		if (strchr("0123456789abcdef", *line))
			found = !strncmp(line, want, strlen(want));
		if (found && strstr(line, want) == line)
			sscanf(line, "%*s %7s %*s %*s %*s %255[^\n]", prot, path);
		if (found && !strncmp(line, "KernelPageSize:", 15))
			sscanf(line, "%*s %63s", page);
		if (found && !strncmp(line, "VmFlags:", 8))
			snprintf(flags, sizeof flags, "%s", line + 9);
	}
	fclose(f);
	// criu makes shared ones a memfd, and fills holes.
	obs("%s: %s pages of %s kB, %s, reserved %d", name, prot, page, segment ? path : "", !strstr(flags, " nr"));
}

static void look(void) {
	struct stat st;
	CHECK(fstat(fd, &st));
	obs("memfd: %ld bytes, %ld blocks, mode %o, seals %#x, at %ld", (long)st.st_size, segment ? (long)st.st_blocks : 0, st.st_mode, fcntl(fd, F_GET_SEALS), (long)lseek(fd, 0, SEEK_CUR));
	vma("own", own);
	vma("its second page", own + HUGE);
	vma("loose", loose);
	vma("both", both);
	vma("mapped", mapped);
	vma("cow", cow);
	obs("own %#lx %#lx", fnv(own, HUGE), fnv(own + HUGE, HUGE));
	obs("loose %#lx", fnv(loose + HUGE, HUGE));
	obs("mapped %#lx cow %#lx", fnv(mapped + 2 * HUGE, HUGE), fnv(cow, HUGE));
	obs("=at %p %p %p %p %p %p", own, loose, both, mapped, cow, segment);
	if (!segment)
		return;
	struct shmid_ds ds;
	CHECK(shmctl(id, IPC_STAT, &ds));
	vma("segment", segment);
	obs("segment: %d bytes, %#lx", (int)ds.shm_segsz, fnv(segment, HUGE));
}

static void rounds(int me) {
	volatile uint64_t *at = (uint64_t *)both;
	uint64_t round = 0;
	do {
		at[me] = ++round;
		while (at[!me] < round)
			nanosleep(&(struct timespec){0, 1000000}, NULL);
		look();
		own[100 + me] = round;
		while (at[me ? 2 : 3] + 1 < round)
			nanosleep(&(struct timespec){0, 1000000}, NULL);
		at[me ? 3 : 2] = round;
	} while (savepoint());
}

static char *huge(size_t n, int flags, int file) {
	return CHECK(mmap(NULL, n * HUGE, PROT_READ | PROT_WRITE, flags | (file < 0 ? MAP_ANONYMOUS | MAP_HUGETLB | (21 << 26) : 0), file, 0));
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	own = huge(2, MAP_PRIVATE, -1);
	memset(own, 7, HUGE);
	memcpy(own + HUGE, "second", 6);
	CHECK(mprotect(own + HUGE, HUGE, PROT_READ));
	loose = huge(3, MAP_PRIVATE | MAP_NORESERVE, -1);
	memset(loose + HUGE + 4096, 8, 4096);
	both = huge(2, MAP_SHARED, -1);
	fd = CHECK(memfd_create("huge", MFD_HUGETLB | (21u << 26) | MFD_ALLOW_SEALING));
	CHECK(ftruncate(fd, 3 * HUGE));
	CHECK(fchmod(fd, 0640));
	CHECK(lseek(fd, 1234, SEEK_SET));
	CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW));
	mapped = huge(3, MAP_SHARED | MAP_NORESERVE, fd);
	memset(mapped + 2 * HUGE + 5 * 4096, 9, 4096);
	cow = CHECK(mmap(NULL, HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 2 * HUGE));
	cow[17] = 'c';
	if (!strcmp(argv[1], "more")) {
		id = CHECK(shmget(IPC_PRIVATE, HUGE + 100, IPC_CREAT | SHM_HUGETLB | (21 << 26) | 0600));
		segment = CHECK(shmat(id, NULL, 0));
		CHECK(shmctl(id, IPC_RMID, NULL));
		strcpy(segment + HUGE - 10, "segment");
	}
	ctl_party("child");
	pid_t pid = CHECK(fork());
	if (pid == 0) {
		ctl_child("child");
		own[5000] = 'x';
		rounds(1);
		_exit(0);
	}
	rounds(0);
	reap(pid);
	CHECK(mprotect(own + HUGE, HUGE, PROT_READ | PROT_WRITE));
	own[HUGE] = loose[0] = mapped[0] = 1;
	return 0;
}
