// Parents, children, sessions and process groups.
#include "ctl.h"

static void look(void) {
	do
		obs("=pid %d ppid %d sid %d pgid %d", getpid(), getppid(), getsid(0), getpgrp());
	while (savepoint());
}

static pid_t spawn(const char *name, void (*body)(void)) {
	ctl_party(name);
	pid_t pid = CHECK(fork());
	if (pid == 0) {
		ctl_child(name);
		body();
		look();
		while (wait(NULL) > 0)
			;
		_exit(0);
	}
	return pid;
}

// Parties of a grandchild are awaited by its parent, as for every child.
static void plain(void) {}
static void deep2(void) { spawn("deep3", plain); }
static void deep1(void) { spawn("deep2", deep2); }
static void session(void) {
	CHECK(setsid());
	spawn("insession", plain);
}
static void group(void) { CHECK(setpgid(0, 0)); }
static pid_t leader;
static void joins(void) {
	while (setpgid(0, leader)) // the leader may not have made its group yet
		if (errno != EPERM && errno != ESRCH)
			die("setpgid: %s", strerror(errno));
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	pid_t kids[] = {spawn("deep1", deep1), spawn("session", session), leader = spawn("group", group),
	                spawn("joins", joins), spawn("plain", plain)};
	look();
	for (int i = 0; i < 5; i++)
		reap(kids[i]);
	return 0;
}
