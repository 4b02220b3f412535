// Has nothing of what a process may inherit from another.
#include "ctl.h"
#include <sched.h>
#include <sys/resource.h>

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	do {
		int mode = -1;
		int r = syscall(SYS_get_mempolicy, &mode, NULL, 0, 0, 0);
		obs("memory: of nodes %d %d, merged %d", r, mode, prctl(68 /* PR_GET_MEMORY_MERGE */, 0, 0, 0, 0));
		obs("keys that are requested go to %ld", syscall(SYS_keyctl, 14 /* KEYCTL_SET_REQKEY_KEYRING */, -1));
		obs("writes out memory for others %d", prctl(58 /* PR_GET_IO_FLUSHER */, 0, 0, 0, 0));
		obs("policy %d, nice %d, of I/O %ld", sched_getscheduler(0), getpriority(PRIO_PROCESS, 0), syscall(SYS_ioprio_get, 1, 0));
		int slack = prctl(PR_GET_TIMERSLACK);
		CHECK(prctl(PR_SET_TIMERSLACK, 0, 0, 0, 0)); // what it began with
		obs("timer slack %d, at first %d", slack, prctl(PR_GET_TIMERSLACK));
		obs("refuses to execute what is written %d", prctl(66 /* PR_GET_MDWE */, 0, 0, 0, 0));
	} while (savepoint());
	return 0;
}
