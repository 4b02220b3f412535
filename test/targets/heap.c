// The heap: contents, brk and malloc after a restore.
#include "ctl.h"

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	char *start = CHECK(sbrk(0)), *block[64];
	CHECK(sbrk(300000));
	memset(start, 'h', 300000);
	for (int i = 0; i < 64; i++)
		MUST(block[i] = calloc(1, 1000 * (i + 1)));
	size_t size = 300000;
	do {
		obs("=start %p", start);
		obs("brk %ld", (long)((char *)CHECK(sbrk(0)) - start) > (long)size ? 1L : 0L);
		obs("content %llx", (unsigned long long)fnv(start, 300000));
		char *more = CHECK(sbrk(50000));
		for (int i = 0; i < 50000; i++)
			if (more[i] && i > 4096) // what malloc left there may be used
				die("fresh heap byte %d is %d", i, more[i]);
		for (int i = 0; i < 64; i++) {
			block[i][i] ^= i;
			MUST(block[i] = realloc(block[i], 3000 * (i + 1)));
			obs("block %d %d", i, block[i][i]);
		}
	} while (savepoint());
	return 0;
}
