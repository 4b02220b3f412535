// Pages with contents and no permission, write-only and execute-only ones,
// and ones that were never touched and stay without memory.
#include "ctl.h"

static long resident(void *p, int pages) {
	unsigned char vec[64];
	CHECK(mincore(p, pages * 4096, vec));
	long n = 0;
	for (int i = 0; i < pages; i++)
		n += vec[i] & 1;
	return n;
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	char *m = CHECK(mmap(NULL, 64 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	char *empty = CHECK(mmap(NULL, 64 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	CHECK(madvise(m, 128 * 4096, MADV_NOHUGEPAGE) | madvise(empty, 64 * 4096, MADV_NOHUGEPAGE));
	for (int i = 0; i < 64; i += 2)
		memset(m + i * 4096, i + 1, 4096);
	memset(empty + 7 * 4096, 1, 4096);
	// Many that can't be read, each between others that can.
	enum { ISLES = 256 };
	char *isles = CHECK(mmap(NULL, ISLES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	for (int i = 0; i < ISLES; i++)
		memset(isles + i * 4096, i + 3, 4096);
	int prot[] = {PROT_NONE, PROT_WRITE, PROT_EXEC, PROT_READ};
	do {
		for (int i = 0; i < 4; i++)
			CHECK(mprotect(m + i * 16 * 4096, 16 * 4096, prot[i]));
		for (int i = 1; i < ISLES; i += 2)
			CHECK(mprotect(isles + i * 4096, 4096, PROT_NONE));
		int more = savepoint();
		CHECK(mprotect(isles, ISLES * 4096, PROT_READ));
		obs("isles %llx", (unsigned long long)fnv(isles, ISLES * 4096));
		obs("resident %ld of 64, %ld of 64", resident(m, 64), resident(empty, 64));
		CHECK(mprotect(m, 64 * 4096, PROT_READ));
		for (int i = 0; i < 64; i += 2)
			obs("page %d %llx", i, (unsigned long long)fnv(m + i * 4096, 4096));
		if (!more)
			break;
	} while (1);
	savepoint();
	return 0;
}
