// A session whose leader has exited, with members below tasks that have left it: each of
// those made one while it was in it, then made a session of its own.
#include "ctl.h"

static void stay(const char *name) {
	ctl_child(name);
	do
		obs("=pid %d ppid %d sid %d pgid %d", getpid(), getppid(), getsid(0), getpgrp());
	while (savepoint());
	_exit(0);
}

int main(int argc, char **argv) {
	static const char *members[] = {"first", "second", "third"};
	ctl_init(argc, argv);
	CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0));
	for (int i = 0; i < 3; i++)
		ctl_party(members[i]);
	ctl_party("left"), ctl_party("left too");
	pid_t leader = CHECK(fork());
	if (leader == 0) {
		CHECK(setsid());
		for (int i = 0; i < 3; i++) {
			if (CHECK(fork()))
				continue;
			while (getppid() == getsid(0))
				nanosleep(&(struct timespec){0, 1000000}, NULL);
			if (i == 2)
				stay(members[i]);
			if (CHECK(fork()) == 0) {
				while (getsid(getppid()) == getsid(0)) // it leaves the session
					nanosleep(&(struct timespec){0, 1000000}, NULL);
				if (i == 1)
					CHECK(setpgid(0, 0));
				stay(members[i]);
			}
			CHECK(setsid());
			ctl_child(i ? "left too" : "left");
			do
				obs("=pid %d ppid %d sid %d pgid %d", getpid(), getppid(), getsid(0), getpgrp());
			while (savepoint());
			reap(-1);
			_exit(0);
		}
		_exit(0);
	}
	reap(leader);
	do
		obs("root");
	while (savepoint());
	reap(-1), reap(-1), reap(-1);
	return 0;
}
