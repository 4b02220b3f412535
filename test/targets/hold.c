// Holds argv[1] MiB of memory that no two pages have in common.
#include "ctl.h"

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	size_t n = atol(argv[1]) << 20;
	uint64_t *m = CHECK(mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)), x = 1;
	for (size_t i = 0; i < n / 8; i++)
		m[i] = x = x * 6364136223846793005 + 1442695040888963407;
	do {
		uint64_t sum = 0;
		for (size_t i = 0; i < n / 8; i++)
			sum = sum * 31 + m[i];
		obs("sum %llx", (unsigned long long)sum);
	} while (savepoint());
	return 0;
}
