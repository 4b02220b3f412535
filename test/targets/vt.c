// A virtual terminal of the machine that controls a session, with a job in its
// foreground and its settings changed.
#include "ctl.h"
#include <sys/sysmacros.h>
#include <termios.h>

static void see(const char *who, int tty) {
	char text[512];
	int fd = CHECK(open("/proc/self/stat", O_RDONLY | O_CLOEXEC)), control = 0, group = 0;
	struct termios t;
	text[CHECK(read(fd, text, sizeof text - 1))] = 0;
	close(fd);
	sscanf(strrchr(text, ')'), ") %*c %*d %*d %*d %d %d", &control, &group);
	CHECK(tcgetattr(tty, &t));
	obs("%s: controlled by %x, settings %x %x %x %x intr %d", who, control, t.c_iflag, t.c_oflag, t.c_cflag, t.c_lflag, t.c_cc[VINTR]);
	obs("=%s: session %d, group %d, %d by its terminal", who, tcgetsid(tty), tcgetpgrp(tty), group);
}

static void job(int tty) {
	ctl_child("job");
	while (tcgetpgrp(tty) != getpid()) // until the leader has put it there
		usleep(1000);
	do
		see("job", tty);
	while (savepoint());
	_exit(0);
}

static void leader(void) {
	char path[400];
	struct termios t;
	ctl_child("leader");
	CHECK(setsid());
	snprintf(path, sizeof path, "%s/vt", ctl_dir);
	CHECK(mknod(path, S_IFCHR | 0600, makedev(4, 9)));
	int tty = open(path, O_RDWR), pid;
	if (tty < 0) { // a machine without
		do
			obs("there is none");
		while (savepoint());
		_exit(0);
	}
	CHECK(tcgetattr(tty, &t));
	t.c_cc[VINTR] = 7;
	CHECK(tcsetattr(tty, TCSANOW, &t));
	signal(SIGHUP, SIG_IGN);
	if (!(pid = CHECK(fork())))
		job(tty);
	CHECK(setpgid(pid, pid)), CHECK(tcsetpgrp(tty, pid));
	ctl_party("job");
	do
		see("leader", tty);
	while (savepoint());
	CHECK(waitpid(pid, NULL, 0));
	_exit(0);
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	int pid = CHECK(fork());
	if (!pid)
		leader();
	ctl_party("leader");
	do
		obs("root");
	while (savepoint());
	CHECK(waitpid(pid, NULL, 0));
	return 0;
}
