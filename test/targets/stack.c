// The main stack and a MAP_GROWSDOWN mapping still grow after a restore.
#include "ctl.h"

static uint64_t deep(int n) {
	volatile char room[8192];
	memset((char *)room, n, sizeof room);
	uint64_t below = n ? deep(n - 1) : 0;
	return below + room[n % sizeof room];
}

static long mapped(const void *p) {
	char line[512];
	unsigned long a, b;
	FILE *f = fopen("/proc/self/maps", "re");
	MUST(f);
	while (fgets(line, sizeof line, f))
		if (sscanf(line, "%lx-%lx", &a, &b) == 2 && a <= (unsigned long)p && (unsigned long)p < b)
			break;
	fclose(f);
	return (b - (unsigned long)p) / 4096;
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	// Room below for it to grow into: nothing else may be mapped there.
	char *hole = CHECK(mmap(NULL, 8 << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	CHECK(munmap(hole, 8 << 20));
	char *top = hole + (7 << 20);
	CHECK(mmap(top, 8192, PROT_READ | PROT_WRITE,
	           MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED_NOREPLACE, -1, 0));
	char *low = top + 4096;
	int depth = 10;
	do {
		obs("=stack at %p, grows at %p", &depth, top);
		obs("deep %llu", (unsigned long long)deep(depth));
		depth += 60;
		for (int i = 0; i < 40; i++, low -= 4096)
			*low = i + 1;
		obs("grown %ld", mapped(low + 4096));
		obs("content %d %d", low[4096], low[8192]);
	} while (savepoint());
	return 0;
}
