// Masters of pseudo-terminals that are only in a message of a connection that nobody has
// accepted: of a slave that this process has, of one that is in the message, too, and of
// one that is closed, one that controls a session; with settings, lines, and what is held back.
#include "unix.h"
#include <termios.h>

enum { MASTERS = 6 };

static int master(void) {
	int m = CHECK(posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK));
	CHECK(grantpt(m)), CHECK(unlockpt(m));
	return m;
}

static int slave(int m) { return CHECK(open(ptsname(m), O_RDWR | O_NOCTTY | O_NONBLOCK)); }
static void type(int fd, const char *text) { MUST(write(fd, text, strlen(text)) == (ssize_t)strlen(text)); }

// echoed waits until so much is to be read from a terminal.
static void echoed(int fd, int n) {
	for (int is = 0; is < n;)
		CHECK(poll(&(struct pollfd){fd, POLLIN, 0}, 1, -1)), CHECK(ioctl(fd, FIONREAD, &is));
}

static void show(const char *what, int fd) {
	char b[6000];
	for (ssize_t n; (n = read(fd, b, sizeof b)) != 0;) {
		if (n < 0) {
			obs("%s: then %s", what, strerror(errno));
			return;
		}
		obs("%s: %zd bytes %016llx %.*s", what, n, (unsigned long long)fnv(b, n), n > 30 ? 30 : (int)n, b);
	}
	obs("%s: end", what);
}

// whole shows what more than one read may be needed for: the kernel fills up what a
// terminal has to be read by and by.
static void whole(const char *what, int fd) {
	char b[6000];
	int size = 0, n;
	while ((n = read(fd, b + size, sizeof b - size)) > 0)
		size += n;
	obs("%s: %d bytes %016llx, then %s", what, size, (unsigned long long)fnv(b, size), n ? strerror(errno) : "end");
}

static void settings(const char *what, int fd) {
	struct termios t;
	struct winsize w;
	int lock = -1, packets = -1, alone = -1;
	CHECK(tcgetattr(fd, &t)), CHECK(ioctl(fd, TIOCGWINSZ, &w));
	ioctl(fd, TIOCGPTLCK, &lock), ioctl(fd, TIOCGPKT, &packets), ioctl(fd, TIOCGEXCL, &alone);
	obs("%s: %x %x %x %x intr %d size %d %d, modes %d %d %d, flags %o", what, t.c_iflag, t.c_oflag, t.c_cflag, t.c_lflag, t.c_cc[VINTR], w.ws_row, w.ws_col, lock, packets, alone, fcntl(fd, F_GETFL));
}

// leader is a session that a terminal controls.
static void leader(const char *name) {
	char text[100];
	CHECK(setsid());
	int tty = CHECK(open(name, O_RDWR));
	ctl_child("leader");
	do
		obs("session %d, group %d", tcgetsid(tty) == getpid(), tcgetpgrp(tty) == getpid());
	while (savepoint());
	int n = CHECK(read(CHECK(open("/dev/tty", O_RDWR)), text, sizeof text));
	obs("reads %.*s", n, text);
	savepoint();
	_exit(0);
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	int m[MASTERS + 1], s[3], n = MASTERS;
	struct termios t;
	for (int i = 0; i < MASTERS; i++)
		m[i] = master();
	char name[64];
	strcpy(name, ptsname(m[5]));
	pid_t pid = CHECK(fork());
	if (!pid) {
		for (int i = 0; i < MASTERS; i++)
			close(m[i]);
		leader(name);
	}
	ctl_party("leader");
	for (int i = 0; i < 3; i++)
		s[i] = slave(m[i]);
	// 0: lines, one of them begun; packets.
	CHECK(tcgetattr(s[0], &t)), t.c_cc[VINTR] = 7, t.c_lflag &= ~ECHOK, CHECK(tcsetattr(s[0], TCSANOW, &t));
	CHECK(ioctl(m[0], TIOCSWINSZ, &(struct winsize){33, 77, 0, 0})), type(m[0], "whole\nend\004begun "), echoed(m[0], 14);
	type(s[0], "shown\n"), echoed(m[0], 21), CHECK(ioctl(m[0], TIOCPKT, &(int){1}));
	// 1: no lines, more of it than the slave takes, and held back.
	cfmakeraw(&t), CHECK(tcsetattr(s[1], TCSANOW, &t));
	char much[6000];
	for (int i = 0; i < 6000; i++)
		much[i] = 'a' + i % 26;
	MUST(write(m[1], much, 6000) == 6000 && write(s[1], much, 2000) == 2000);
	echoed(s[1], 4095), echoed(m[1], 2000), CHECK(tcflow(s[1], TCOOFF));
	// 2: its slave comes along, and is alone.
	CHECK(ioctl(s[2], TIOCEXCL)), type(m[2], "typed\n"), echoed(m[2], 7), m[n++] = s[2];
	// 3: its slave is closed, 4: there was none, and it is locked.
	s[2] = slave(m[3]), type(s[2], "last words\n"), echoed(m[3], 12), close(s[2]), s[2] = m[2];
	CHECK(ioctl(m[4], TIOCSPTLCK, &(int){1}));
	int l = add("door", listening(SOCK_STREAM, NAME("door"))), c = add("client", client(SOCK_STREAM, NAME("door")));
	with(c, "files", 5, m, n, NULL);
	for (int i = 0; i < n; i++)
		CHECK(close(m[i]));
	do {
		look_all();
		settings("first", s[0]), settings("second", s[1]), obs("=%s %s", ttyname(s[0]), ttyname(s[1]));
	} while (savepoint());

	char data[20], control[CMSG_SPACE(sizeof m)];
	struct iovec v = {data, sizeof data};
	struct msghdr h = {NULL, 0, &v, 1, control, sizeof control, 0};
	int e = CHECK(accept(l, NULL, NULL));
	MUST(CHECK(recvmsg(e, &h, 0)) == 5 && CMSG_FIRSTHDR(&h)->cmsg_len == CMSG_LEN(n * sizeof(int)));
	memcpy(m, CMSG_DATA(CMSG_FIRSTHDR(&h)), n * sizeof(int)), s[2] = m[MASTERS];
	for (int i = 0; i < MASTERS; i++) {
		int polled = poll(&(struct pollfd){m[i], 0, 0}, 1, 0); // hung up?
		obs("%d: hung up %d", i, polled);
		settings("master", m[i]);
	}
	for (int i = 0; i < 3; i++)
		obs("%d: its slave %d", i, !strcmp(ptsname(m[i]), ttyname(s[i])));
	type(m[0], "and ended\n"), echoed(m[0], 34), show("first", s[0]), show("its master", m[0]);
	CHECK(tcflow(s[1], TCOON)), type(s[1], "more"), echoed(m[1], 2004), whole("second", s[1]), whole("its master", m[1]);
	show("third", s[2]), show("its master", m[2]), show("of none", m[3]);
	type(m[5], "typed to the leader\n");
	savepoint();
	reap(pid);
	return 0;
}
