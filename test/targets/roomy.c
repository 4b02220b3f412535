// A large mapping of which little is there, and all limits, one of which it lowers.
#include "ctl.h"
#include <sys/resource.h>

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	size_t size = 5ul << 30;
	char *mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	MUST(mem != MAP_FAILED);
	mem[size - 1] = 7;
	struct rlimit low;
	CHECK(getrlimit(RLIMIT_SIGPENDING, &low)), low.rlim_cur = 100, CHECK(setrlimit(RLIMIT_SIGPENDING, &low));
	do {
		obs("there: %d %d", mem[0], mem[size - 1]);
		for (int i = 0; i < RLIM_NLIMITS; i++) {
			struct rlimit l;
			CHECK(getrlimit(i, &l));
			obs("limit %d: %lx %lx", i, (long)l.rlim_cur, (long)l.rlim_max);
		}
	} while (savepoint());
	return 0;
}
