// Becomes another program that has much which its children inherit; "mdwe", "landlock": what
// nobody gets rid of.
#include <linux/landlock.h>
#include <sched.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv) {
	(void)argc;
	if (!strcmp(argv[1], "mdwe"))
		return prctl(65 /* PR_SET_MDWE */, 1, 0, 0, 0) || execv(argv[2], argv + 2);
	if (!strcmp(argv[1], "landlock")) {
		struct landlock_ruleset_attr files = {.handled_access_fs = LANDLOCK_ACCESS_FS_MAKE_BLOCK};
		int rules = syscall(SYS_landlock_create_ruleset, &files, sizeof files, 0);
		return rules < 0 || syscall(SYS_landlock_restrict_self, rules, 0) || close(rules) || execv(argv[2], argv + 2);
	}
	unsigned long node = 1;
	prctl(67 /* PR_SET_MEMORY_MERGE */, 1, 0, 0, 0);
	syscall(SYS_keyctl, 14 /* KEYCTL_SET_REQKEY_KEYRING */, 4);
	prctl(57 /* PR_SET_IO_FLUSHER */, 1, 0, 0, 0);
	syscall(SYS_set_mempolicy, 3 /* MPOL_INTERLEAVE */, &node, 64);
	struct sched_param param = {.sched_priority = 5};
	return syscall(SYS_ioprio_set, 1, 0, 3 << 13) || setpriority(PRIO_PROCESS, 0, 5) || prctl(PR_SET_TIMERSLACK, 12345, 0, 0, 0) ||
	       sched_setscheduler(0, SCHED_FIFO, &param) || execv(argv[2], argv + 2);
}
