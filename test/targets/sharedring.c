// Processes that share their descriptors, each with a ring of asynchronous I/O and with
// files that are mapped, many times: what makes a ring again opens something for a moment.
#include "ctl.h"
#include <linux/aio_abi.h>
#include <sched.h>

enum { KIDS = 8, FILES = 24, TIMES = 50 };
static char stack[65536];
static const char *names[KIDS] = {"a", "b", "c", "d", "e", "f", "g", "h"};

static int kid_main(void *arg) {
	int me = (intptr_t)arg, bad = 0;
	char *at[FILES], name[40];
	aio_context_t ctx = 0;
	for (int i = 0; i < FILES; i++) {
		snprintf(name, sizeof name, "mapped.%d.%d", me, i);
		int fd = CHECK(open(name, O_RDWR | O_CREAT, 0600));
		MUST(write(fd, name, sizeof name) == sizeof name);
		for (int n = 0; n < TIMES; n++) {
			at[i] = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
			MUST(at[i] != MAP_FAILED);
		}
		CHECK(close(fd));
	}
	CHECK(syscall(SYS_io_setup, 64, &ctx));
	ctl_child(names[me]);
	do {
		bad = 0;
		for (int i = 0; i < FILES; i++) {
			snprintf(name, sizeof name, "mapped.%d.%d", me, i);
			bad += strcmp(at[i], name) != 0;
		}
		obs("%d mappings of others, ring %ld", bad, syscall(SYS_io_getevents, ctx, 0, 0, NULL, NULL));
	} while (savepoint());
	return 0;
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	pid_t kid[KIDS];
	for (int i = 0; i < KIDS; i++) {
		ctl_party(names[i]);
		kid[i] = CHECK(clone(kid_main, stack + sizeof stack, CLONE_FILES | SIGCHLD, (void *)(intptr_t)i));
	}
	do
		obs("=kids %d", KIDS);
	while (savepoint());
	for (int i = 0; i < KIDS; i++)
		CHECK(waitpid(kid[i], NULL, 0));
	return 0;
}
