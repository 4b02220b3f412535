// Holds argv[1] MiB of memory, so that a dump takes a while, and counts the
// SIGUSR1 that come.
#include "ctl.h"

static volatile sig_atomic_t came;
static void on_usr1(int sig) { came += sig == SIGUSR1; }

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	MUST(signal(SIGUSR1, on_usr1) != SIG_ERR);
	size_t n = atol(argv[1]) << 20;
	char *m = CHECK(mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	memset(m, 1, n);
	do
		obs("came %d", (int)came);
	while (savepoint());
	return 0;
}
