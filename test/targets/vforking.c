// A parent that waits in vfork(2), where no signal and no tracer stops it,
// for as long as the file "go.0" is not there.
#include "ctl.h"

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	char at[400], go[400];
	ctl_path(at, "at", NULL), ctl_path(go, "go", NULL);
	pid_t p = vfork();
	MUST(p >= 0);
	if (!p) {
		mknod(at, S_IFREG | 0666, 0);
		while (access(go, F_OK))
			nanosleep(&(struct timespec){0, 10000000}, NULL);
		_exit(0);
	}
	return 0;
}
