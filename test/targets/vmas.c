// Many mappings (argv[1] of them), with odd sizes and holes between them.
#include "ctl.h"

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	int n = atoi(argv[1]), prot[] = {PROT_READ, PROT_READ | PROT_WRITE, PROT_NONE, PROT_READ | PROT_EXEC};
	char *base = CHECK(mmap(NULL, n * 16384L, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
	for (int i = 0; i < n; i++) {
		char *p = base + i * 16384L;
		if (i % 5 == 4) {
			CHECK(munmap(p, 4096 * (i % 3 + 1)));
			continue;
		}
		CHECK(mprotect(p, 8192, PROT_READ | PROT_WRITE));
		*(int *)(p + 4096) = i;
		CHECK(mprotect(p, 4096 * (i % 3 + 1), prot[i % 4]));
	}
	static char text[4 << 20];
	do {
		int fd = CHECK(open("/proc/self/maps", O_RDONLY | O_CLOEXEC));
		size_t len = 0;
		for (ssize_t r; (r = CHECK(read(fd, text + len, sizeof text - len))) > 0;)
			len += r;
		close(fd);
		text[len] = 0;
		// Only ours: libraries' mappings may be split by the engine without harm.
		uint64_t h = 0, lines = 0;
		for (char *l = strtok(text, "\n"); l; l = strtok(NULL, "\n")) {
			unsigned long a = strtoul(l, NULL, 16);
			if (a >= (unsigned long)base && a < (unsigned long)base + n * 16384L)
				h = h * 31 + fnv(l, strlen(l)), lines++;
		}
		obs("mappings %llu", (unsigned long long)lines);
		obs("=maps %llx", (unsigned long long)h);
		for (int i = 1; i < n; i += 2) // readable ones
			if (i % 5 != 4 && i % 3 && i % 4 < 2)
				MUST(*(int *)(base + i * 16384L + 4096) == i);
	} while (savepoint());
	return 0;
}
