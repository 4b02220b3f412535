// Pseudo-terminals that hold as much as they can, in both directions, of
// programs that write much or little at once; such whose output is held back,
// by tcflow(3) or a key, with and without something shown before; one that only
// root may open, and that was locked again; masters that may not type, by tcflow(3).
#include "ctl.h"
#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>

enum { MOST = 1 << 17 };
static struct terminal { int master, slave; char sent[2][MOST]; size_t len[2]; } full[3], call[2], key[2], odd;

static void make(struct terminal *t, int raw) {
	struct termios s;
	t->master = CHECK(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
	CHECK(grantpt(t->master)), CHECK(unlockpt(t->master));
	t->slave = CHECK(open(ptsname(t->master), O_RDWR | O_NOCTTY));
	CHECK(tcgetattr(t->slave, &s));
	s.c_oflag = 0, s.c_lflag &= ~ECHO, s.c_iflag |= IXON;
	if (raw)
		cfmakeraw(&s);
	CHECK(tcsetattr(t->slave, TCSANOW, &s));
}

static void wait_mode(struct terminal *t, int wait) {
	CHECK(fcntl(t->master, F_SETFL, O_RDWR | (wait ? 0 : O_NONBLOCK)));
	CHECK(fcntl(t->slave, F_SETFL, O_RDWR | (wait ? 0 : O_NONBLOCK)));
}

// fill writes to an end, n bytes at once, until nothing fits for a while.
static void fill(struct terminal *t, int to_slave, int n) {
	char piece[1 << 13];
	int fd = to_slave ? t->master : t->slave;
	for (int nothing = 0; nothing < 20;) {
		memset(piece, '!' + t->len[to_slave] % 91, n);
		ssize_t w = write(fd, piece, n);
		if (w > 0)
			memcpy(t->sent[to_slave] + t->len[to_slave], piece, w), t->len[to_slave] += w, nothing = 0;
		else
			nothing++, usleep(1000);
	}
}

// drain reads it all, and tells whether it is that.
static void drain(const char *what, struct terminal *t, int of_slave) {
	static char got[MOST + 1];
	size_t n = 0;
	struct pollfd p = {of_slave ? t->slave : t->master, POLLIN};
	while (n < t->len[of_slave] && poll(&p, 1, 5000) > 0)
		n += CHECK(read(p.fd, got + n, sizeof got - n));
	obs("%s: %s", what, n == t->len[of_slave] && !memcmp(got, t->sent[of_slave], n) ? "all" : "not all of it");
	t->len[of_slave] = 0;
}

static void fullness(void) {
	static const int piece[] = {60, 1000, 4096};
	for (int i = 0; i < 3; i++) {
		wait_mode(full + i, 0);
		if (ctl_gen)
			drain("typed", full + i, 1), drain("shown", full + i, 0);
		fill(full + i, 1, piece[i]), fill(full + i, 0, piece[i]);
		wait_mode(full + i, i != 1);
	}
}

// held tells whether output is held back, and what there is to read; then it goes on,
// and is held back again.
static void held(const char *what, struct terminal *t, int by_key, int shown) {
	struct pollfd p = {t->slave, POLLOUT};
	char got[64] = "";
	CHECK(poll(&p, 1, 0));
	obs("%s: takes %x", what, p.revents);
	wait_mode(t, 0);
	if (shown && ctl_gen)
		CHECK(read(t->master, got, sizeof got - 1));
	obs("%s: shown %s", what, got);
	if (ctl_gen) {
		if (by_key)
			CHECK(write(t->master, "\021", 1));
		else
			CHECK(tcflow(t->slave, TCOON));
		CHECK(poll(&p, 1, 5000));
		obs("%s: goes on %x", what, p.revents & POLLOUT);
	}
	if (shown) {
		CHECK(write(t->slave, "before", 6));
		CHECK(poll(&(struct pollfd){t->master, POLLIN}, 1, 5000));
	}
	if (by_key) {
		CHECK(write(t->master, "\023", 1));
		while (p.revents = 0, CHECK(poll(&p, 1, 0)))
			usleep(1000);
	} else
		CHECK(tcflow(t->slave, TCOOFF));
	wait_mode(t, 1);
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	for (int i = 0; i < 3; i++)
		make(full + i, 1);
	for (int i = 0; i < 2; i++)
		make(call + i, 0), make(key + i, 0);
	make(&odd, 0);
	CHECK(ioctl(odd.slave, TIOCEXCL)), CHECK(ioctl(odd.master, TIOCEXCL)), CHECK(write(odd.master, "typed\n", 6)), CHECK(ioctl(odd.master, TIOCSPTLCK, &(int){1}));
	struct pollfd types[2] = {{odd.master, POLLOUT}, {posix_openpt(O_RDWR | O_NOCTTY), POLLOUT}};
	CHECK(types[1].fd);
	do {
		fullness();
		for (int i = 0; i < 2; i++)
			held(i ? "call, shown" : "call", call + i, 0, i), held(i ? "key, shown" : "key", key + i, 1, i);
		if (!ctl_gen) // what a master types waits, too
			CHECK(tcflow(types[0].fd, TCOOFF)), CHECK(tcflow(types[1].fd, TCOOFF));
		CHECK(poll(types, 2, 0));
		obs("masters may type: %x %x", types[0].revents, types[1].revents);
		int only = 0, its = 0, lock = 0, n = 0;
		CHECK(ioctl(odd.slave, TIOCGEXCL, &only)), CHECK(ioctl(odd.master, TIOCGEXCL, &its)), CHECK(ioctl(odd.master, TIOCGPTLCK, &lock));
		while (!n)
			CHECK(ioctl(odd.slave, FIONREAD, &n));
		obs("exclusive %d %d, locked %d, %d to read", only, its, lock, n);
	} while (savepoint());
	return 0;
}
