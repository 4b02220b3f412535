// Tasks in sessions of their siblings, one of which has ended, or of one that is gone, with what
// they share with their parent; and a group that its leader has left.
#include "ctl.h"
#include <linux/kcmp.h>
#include <sched.h>

static void stay(const char *name) {
	ctl_child(name);
	while (access("ready", F_OK))
		nanosleep(&(struct timespec){0, 1000000}, NULL);
	do {
		obs("=%s ppid %d sid %d pgid %d", name, getppid(), getsid(0), getpgrp());
		obs("%s files %d directory %d", name, syscall(SYS_kcmp, getpid(), getppid(), KCMP_FILES, 0, 0) == 0,
		    syscall(SYS_kcmp, getpid(), getppid(), KCMP_FS, 0, 0) == 0);
	} while (savepoint());
	_exit(0);
}

static pid_t make(int flags) { return CHECK(syscall(SYS_clone, flags | SIGCHLD, NULL, NULL, NULL, NULL)); }

// member makes one of the session of who calls it, as its sibling.
static void member(const char *name, int flags) {
	if (make(CLONE_PARENT | flags) == 0)
		stay(name);
}

// leader makes a session, and members of it.
static pid_t leader(const char *name, int flags, void (*body)(const char *)) {
	pid_t pid = make(flags);
	if (pid == 0)
		CHECK(setsid()), body(name);
	return pid;
}

static void lives(const char *name) {
	member("with files", CLONE_FILES), member("alone", 0);
	CHECK(unshare(CLONE_FILES));
	stay(name);
}

static void ends(const char *name) {
	(void)name;
	member("with directory", CLONE_FS), member("with all", CLONE_FS | CLONE_FILES);
	_exit(3);
}

int main(int argc, char **argv) {
	static const char *parties[] = {"lives", "with files", "alone", "with directory", "with all", "orphaned", "left", "lender"};
	ctl_init(argc, argv);
	for (int i = 0; i < 8; i++)
		ctl_party(parties[i]);
	pid_t alive = leader("lives", CLONE_FILES, lives);
	siginfo_t si;
	pid_t dead = leader("ends", CLONE_FS | CLONE_FILES, ends), gone = make(0), lender;
	if (gone == 0) {
		CHECK(setsid()), member("orphaned", 0);
		_exit(0);
	}
	reap(gone);
	CHECK(waitid(P_PID, dead, &si, WEXITED | WNOWAIT));
	if ((lender = make(0)) == 0)
		stay("lender");
	CHECK(setpgid(lender, lender));
	pid_t left = make(0);
	if (left == 0)
		stay("left");
	CHECK(setpgid(left, lender)), CHECK(setpgid(lender, getpgrp()));
	while (syscall(SYS_kcmp, getpid(), alive, KCMP_FILES, 0, 0) == 0) // it has yet to make its own
		nanosleep(&(struct timespec){0, 1000000}, NULL);
	CHECK(mknod("ready", S_IFREG | 0600, 0));
	do {
		CHECK(waitid(P_PID, dead, &si, WEXITED | WNOWAIT));
		obs("=ended %d group %d session %d", si.si_pid == dead, getpgid(dead), getsid(dead));
	} while (savepoint());
	while (wait(NULL) > 0)
		;
	return 0;
}
