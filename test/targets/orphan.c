// Tasks whose session leader and process group leader have exited.
#include "ctl.h"

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0));
	ctl_party("orphan");
	ctl_party("regrouped");
	pid_t leader = CHECK(fork());
	if (leader == 0) {
		CHECK(setsid());
		for (int i = 0; i < 2; i++) {
			if (CHECK(fork()))
				continue;
			while (getppid() == getsid(0))
				nanosleep(&(struct timespec){0, 1000000}, NULL);
			ctl_child(i ? "regrouped" : "orphan");
			if (i)
				CHECK(setpgid(0, 0));
			do
				obs("=pid %d ppid %d sid %d pgid %d", getpid(), getppid(), getsid(0), getpgrp());
			while (savepoint());
			_exit(0);
		}
		_exit(0);
	}
	reap(leader);
	int sub;
	do {
		CHECK(prctl(PR_GET_CHILD_SUBREAPER, &sub, 0, 0, 0));
		obs("subreaper %d", sub);
	} while (savepoint());
	reap(-1);
	reap(-1);
	return 0;
}
