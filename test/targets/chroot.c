// A child with another root and working directory.
#include "ctl.h"

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	CHECK(mkdir("inner", 0755));
	ctl_party("jailed");
	pid_t pid = CHECK(fork());
	if (!pid) {
		ctl_child("jailed");
		CHECK(chroot(ctl_dir)), CHECK(chdir("/inner"));
		*ctl_dir = 0;
		do {
			char cwd[256];
			MUST(getcwd(cwd, sizeof cwd));
			obs("cwd %s, outside %d, inside %d", cwd, access("/proc/self", F_OK), access("/inner", F_OK));
		} while (savepoint());
		_exit(0);
	}
	do
		obs("outside %d", access("/proc/self", F_OK));
	while (savepoint());
	reap(pid);
	return 0;
}
