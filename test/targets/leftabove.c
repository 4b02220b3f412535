// Tasks that were left to one further above, in sessions which that has never been in: of a
// leader that lives below another task, that has a child from before, that has ended, or that is
// gone; with memory that they have from their first parent.
#include "ctl.h"

static char memory[1 << 16];

static void stay(const char *name) {
	ctl_child(name);
	while (access("ready", F_OK))
		nanosleep(&(struct timespec){0, 1000000}, NULL);
	do
		obs("=%s ppid %d sid %d pgid %d memory %lx", name, getppid(), getsid(0), getpgrp(), fnv(memory, sizeof memory));
	while (savepoint());
	while (wait(NULL) > 0)
		;
	_exit(0);
}

static void child(const char *name, int code) {
	if (CHECK(fork()) == 0) {
		memory[code] += code + 1;
		stay(name);
	}
}

// leave leaves a task, which has a child of its own, to who takes such.
static void leave(const char *name, const char *below) {
	pid_t pid = CHECK(fork());
	if (pid == 0) {
		pid_t maker = getpid();
		if (CHECK(fork()) == 0) {
			memory[300]++;
			while (getppid() == maker) // not yet left
				nanosleep(&(struct timespec){0, 1000000}, NULL);
			child(below, 500);
			stay(name);
		}
		_exit(0);
	}
	reap(pid);
}

int main(int argc, char **argv) {
	static const char *parties[] = {"between", "shell", "left", "its child", "from before", "daemon", "left too", "its child too", "left by a dead one", "its child as well", "member", "left by one gone", "and its child"};
	siginfo_t si;
	ctl_init(argc, argv);
	for (int i = 0; i < 13; i++)
		ctl_party(parties[i]);
	CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1));
	memset(memory, 'x', sizeof memory);
	if (CHECK(fork()) == 0) {
		if (CHECK(fork()) == 0) { // a shell below another task
			CHECK(setsid());
			leave("left", "its child");
			stay("shell");
		}
		pid_t dead = CHECK(fork());
		if (dead == 0) {
			CHECK(setsid()), leave("left by a dead one", "its child as well");
			_exit(4);
		}
		CHECK(waitid(P_PID, dead, &si, WEXITED | WNOWAIT));
		pid_t gone = CHECK(fork());
		if (gone == 0) {
			CHECK(setsid()), leave("left by one gone", "and its child");
			if (CHECK(syscall(SYS_clone, 0x8000 /* CLONE_PARENT */ | SIGCHLD, NULL, NULL, NULL, NULL)) == 0)
				stay("member");
			_exit(0);
		}
		reap(gone);
		stay("between");
	}
	if (CHECK(fork()) == 0) {
		child("from before", 40), CHECK(setsid());
		leave("left too", "its child too");
		stay("daemon");
	}
	CHECK(mknod("ready", S_IFREG | 0600, 0));
	do
		obs("root");
	while (savepoint());
	while (wait(NULL) > 0)
		;
	return 0;
}
