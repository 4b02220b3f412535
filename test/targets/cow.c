// Memory that children inherited is still shared copy-on-write: the sum of
// all shares (Pss) after a restore is that of one copy and what was changed; of two where
// the parent has written to all of it since.
#include "ctl.h"
#define MIB (48L << 20)
#define KIDS 6

static char *mem;

static long pss(pid_t pid) {
	char path[64], line[256];
	long kb = 0;
	snprintf(path, sizeof path, "/proc/%d/smaps_rollup", pid);
	FILE *f = fopen(path, "re");
	MUST(f);
	while (fgets(line, sizeof line, f))
		if (sscanf(line, "Pss: %ld", &kb) == 1)
			break;
	fclose(f);
	return kb;
}

// moves tells whether all of the memory can be moved as one, there and back.
static int moves(void) {
	char *there = mremap(mem, MIB, 2 * MIB, MREMAP_MAYMOVE);
	return there != MAP_FAILED && mremap(there, 2 * MIB, MIB, MREMAP_MAYMOVE | MREMAP_FIXED, mem) == mem;
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	mem = CHECK(mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	CHECK(madvise(mem, MIB, MADV_NOHUGEPAGE));
	for (long i = 0; i < MIB; i += 8)
		*(uint64_t *)(mem + i) = i * 0x9e3779b97f4a7c15;
	pid_t kids[KIDS];
	for (int k = 0; k < KIDS; k++) {
		char name[16];
		snprintf(name, sizeof name, "kid%d", k);
		ctl_party(name);
		if ((kids[k] = CHECK(fork())))
			continue;
		ctl_child(name);
		if (!strcmp(argv[1], "oldercut") && !k) // the eldest would leave the others two mappings
			CHECK(munmap(mem + MIB / 2, MIB / 2));
		if (!strcmp(argv[1], "older") && k % 3 < 2)
			CHECK(k % 3 ? setpgid(0, 0) : setsid());
		memset(mem + k * 40960, k, 20000);
		if (!strcmp(argv[1], "split"))
			CHECK(munmap(mem + MIB - 4096 * (k + 1), 4096 * (k + 1)));
		do
			obs("memory %llx, leads a session %d, a group %d", (unsigned long long)fnv(mem, 4 << 20), getsid(0) == getpid(), getpgid(0) == getpid()), obs("moves: %d", k > 0 && strcmp(argv[1], "split") ? moves() : 2);
		while (savepoint());
		for (;;)
			pause(); // the parent still looks
	}
	int older = !strncmp(argv[1], "older", 5);
	memset(mem + (1 << 20), 1, older ? MIB - (1 << 20) : 50000); // written by the parent after the fork
	do {
		for (int k = 0; k < KIDS; k++)
			ctl_await("at", ctl_party_name[k]);
		long sum = pss(getpid());
		for (int k = 0; k < KIDS; k++)
			sum += pss(kids[k]);
		obs("memory %llx", (unsigned long long)fnv(mem, 4 << 20));
		obs("one copy %d", sum < MIB / 1024 * (older ? 5 : 3) / 2);
	} while (savepoint());
	for (int k = 0; k < KIDS; k++)
		CHECK(kill(kids[k], SIGKILL)), CHECK(waitpid(kids[k], NULL, 0));
	return 0;
}
