// A pseudo-terminal with both ends in the tree: the master here, a session
// with a job in the foreground at the slave; settings, sizes, modes, and what
// is on the way in both directions.
#include "ctl.h"
#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>

static int number(const char *name) {
	char path[400];
	snprintf(path, sizeof path, "%s/%s", ctl_dir, name);
	FILE *f = fopen(path, "re");
	int n = 0;
	if (f && fscanf(f, "%d", &n))
		fclose(f);
	return n;
}

static void note(const char *name, int n) {
	char path[400], temp[410];
	snprintf(path, sizeof path, "%s/%s", ctl_dir, name);
	snprintf(temp, sizeof temp, "%s~", path);
	FILE *f = fopen(temp, "we");
	fprintf(f, "%d\n", n), fclose(f);
	CHECK(rename(temp, path));
}

static void settings(const char *what, int fd) {
	struct termios t;
	struct winsize w;
	CHECK(tcgetattr(fd, &t)), CHECK(ioctl(fd, TIOCGWINSZ, &w));
	obs("%s: %x %x %x %x intr %d size %d %d", what, t.c_iflag, t.c_oflag, t.c_cflag, t.c_lflag, t.c_cc[VINTR], w.ws_row, w.ws_col);
	obs("=%s: session %d group %d of %s", what, tcgetsid(fd), tcgetpgrp(fd), ttyname(fd) ?: "");
}

static int ctty(void) {
	char text[512];
	int fd = CHECK(open("/proc/self/stat", O_RDONLY | O_CLOEXEC)), tty = 0;
	text[CHECK(read(fd, text, sizeof text - 1))] = 0;
	close(fd);
	sscanf(strrchr(text, ')'), ") %*c %*d %*d %*d %d", &tty);
	return tty;
}

static void job(int tty) {
	ctl_child("job");
	CHECK(setpgid(0, 0));
	signal(SIGTTOU, SIG_IGN);
	CHECK(tcsetpgrp(tty, getpid()));
	int own = CHECK(open("/dev/tty", O_RDWR | O_NOCTTY));
	char text[100];
	do {
		memset(text, 0, sizeof text);
		obs("=terminal %d", ctty());
		if (!ctl_gen) {
			note("job", 1);
			continue;
		}
		CHECK(read(tty, text, sizeof text)); // the line that was typed before
		obs("read %s", text);
		note("read", ctl_gen);
		memset(text, 0, sizeof text), CHECK(read(own, text, sizeof text));
		obs("then %s", text);
		CHECK(write(own, "shown\n", 6));
		note("shown", ctl_gen);
	} while (savepoint());
	ctl_await("at", NULL);
	_exit(0);
}

// without is a process that has not the terminal of its session, as one has that was there before, or,
// with a number, that has given it up.
static int without(const char *name, int tty) {
	int pid = CHECK(fork()), has = 0, end;
	if (pid)
		return pid;
	ctl_child(name);
	if (tty >= 0) {
		ctl_party("has");
		if (!(has = CHECK(fork())))
			ctl_child("has"), has = -1;
		else
			CHECK(ioctl(tty, TIOCNOTTY));
	}
	do {
		end = open("/dev/tty", O_RDWR | O_NOCTTY);
		obs("%s: %d, /dev/tty %d", has < 0 ? "has" : name, ctty() != 0, end >= 0);
		if (end >= 0)
			close(end);
	} while (savepoint());
	if (has > 0)
		reap(has);
	ctl_await("at", NULL);
	_exit(0);
}

static void shell(const char *name) {
	CHECK(setsid());
	int before = without("before", -1);
	int tty = CHECK(open(name, O_RDWR)), after = without("after", tty);
	struct termios t;
	CHECK(tcgetattr(tty, &t));
	t.c_cc[VINTR] = 7, t.c_lflag |= ICANON | ECHO, t.c_lflag &= ~ECHOK;
	CHECK(tcsetattr(tty, TCSANOW, &t));
	int pid = CHECK(fork());
	if (!pid)
		job(tty);
	ctl_child("shell");
	while (!number("job"))
		usleep(1000);
	do {
		settings("slave", tty);
		obs("=terminal %d flags %o", ctty(), fcntl(tty, F_GETFL));
	} while (savepoint());
	ctl_await("at", NULL); // its terminal is looked at until then
	reap(pid), reap(before), reap(after);
	_exit(0);
}

// expect reads from the master until it ends in text.
static void expect(int m, int packets, const char *want) {
	char got[400] = "", piece[400];
	while (!strstr(got, want)) {
		int n = CHECK(read(m, piece, sizeof piece - 1));
		piece[n] = 0;
		if (!packets || piece[0] == TIOCPKT_DATA)
			strncat(got, piece + packets, sizeof got - strlen(got) - 1);
	}
	obs("master got %d bytes that end in %s", (int)strlen(got), want);
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	int m = CHECK(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
	CHECK(grantpt(m)), CHECK(unlockpt(m));
	CHECK(ioctl(m, TIOCSWINSZ, &(struct winsize){33, 77, 0, 0}));
	CHECK(ioctl(m, TIOCPKT, &(int){1}));
	int closed = CHECK(posix_openpt(O_RDWR | O_NOCTTY)), never = CHECK(posix_openpt(O_RDWR | O_NOCTTY));
	CHECK(grantpt(closed)), CHECK(unlockpt(closed));
	close(CHECK(open(ptsname(closed), O_RDWR | O_NOCTTY)));
	int pid = CHECK(fork());
	if (!pid) {
		close(closed), close(never);
		char name[64];
		strcpy(name, ptsname(m));
		close(m);
		shell(name);
	}
	ctl_party("shell"), ctl_party("job"), ctl_party("before"), ctl_party("after");
	while (!number("job"))
		usleep(1000);
	do {
		int on, lock, one = 0;
		CHECK(ioctl(m, TIOCGPKT, &on)), CHECK(ioctl(never, TIOCGPTLCK, &lock));
		struct pollfd p[] = {{closed, POLLIN}, {never, POLLIN}};
		CHECK(poll(p, 2, 0));
		obs("packet mode %d, locked %d, hung up %x, never %x", on, lock, p[0].revents, p[1].revents);
		if (ctl_gen) {
			while (number("read") != ctl_gen)
				usleep(1000);
			CHECK(write(m, "line\n", 5)); // the rest of one that was begun
			while (number("shown") != ctl_gen)
				usleep(1000);
			expect(m, 1, "shown\r\n");
		}
		settings("master", m);
		CHECK(write(m, "whole\nbegun ", 12)); // to be read behind the save point
		while (!one)
			CHECK(ioctl(m, FIONREAD, &one)); // its echo is there
	} while (savepoint());
	reap(pid);
	return 0;
}
