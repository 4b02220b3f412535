// Pairs of connected unix stream sockets, within one task and between parent
// and child, with queued bytes both ways, half read, and one end shut down. Some
// have nothing special but their places, and an epoll file that watches them.
#include "ctl.h"
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

static char buf[100000], got[100000];

static void state(const char *who, int fd) {
	int in = -1, snd, type;
	socklen_t len = sizeof snd;
	CHECK(ioctl(fd, FIONREAD, &in));
	CHECK(getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &snd, &len));
	len = sizeof type;
	CHECK(getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len));
	obs("%s type %d flags %o fd %d in %d sndbuf %d", who, type, fcntl(fd, F_GETFL), fcntl(fd, F_GETFD), in, snd);
}

static ssize_t take(int fd, size_t n) {
	size_t have = 0;
	for (ssize_t r; have < n && (r = read(fd, got + have, n - have)) > 0;)
		have += r;
	return have;
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	int a[2], b[2], c[2], d[2], e[2];
	for (int i = 0; i < (int)sizeof buf; i++)
		buf[i] = i * 7 + i / 256;
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, a));
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, b)), CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, c));
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, d)), CHECK(dup2(d[0], 30)), CHECK(dup2(d[1], 20));
	close(d[0]), close(d[1]);
	CHECK(write(30, "down", 4)), CHECK(write(20, "up", 2)), CHECK(write(20, "stairs", 6));
	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, e));
	CHECK(write(e[0], "one", 3)), CHECK(write(e[0], "two", 3));
	struct epoll_event ev = {EPOLLIN, {.u64 = 7}};
	int ep = CHECK(epoll_create1(0));
	CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, 30, &ev));
	int size = 200000;
	CHECK(setsockopt(a[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size));
	CHECK(write(a[0], buf, 90000)), CHECK(write(a[1], "back", 4));
	CHECK(take(a[1], 1234)); // half read
	CHECK(write(c[0], "bye", 3)), CHECK(shutdown(c[0], SHUT_WR));
	CHECK(write(b[0], "from", 4));
	ctl_party("child");
	pid_t pid = CHECK(fork());
	if (!pid) {
		ctl_child("child");
		close(20), close(30), close(e[0]), close(e[1]), close(ep);
		close(b[0]), close(a[0]), close(a[1]), close(c[0]), close(c[1]);
		CHECK(write(b[1], "from the child", 14));
		do
			state("child", b[1]);
		while (savepoint());
		CHECK(take(b[1], 5));
		obs("child got %.5s", got);
		CHECK(write(b[1], "done", 4));
		savepoint();
		_exit(0);
	}
	close(b[1]);
	ctl_await("at", "child"); // its bytes are on the way
	do
		state("a0", a[0]), state("a1", a[1]), state("b0", b[0]), state("c0", c[0]), state("c1", c[1]), state("d0", 30), state("d1", 20), state("e0", e[0]), state("e1", e[1]);
	while (savepoint());
	CHECK(write(b[0], "!", 1)); // lets the child answer
	CHECK(take(a[1], 90000 - 1234));
	obs("big %d", !memcmp(got, buf + 1234, 90000 - 1234));
	CHECK(take(a[0], 4));
	obs("small %.4s, then %zd %s", got, read(a[0], got, 1), strerror(errno));
	CHECK(write(a[0], "alive", 5)), CHECK(take(a[1], 5));
	obs("still %.5s", got);
	CHECK(take(b[0], 18));
	obs("parent got %.18s, then %zd", got, read(b[0], got, 1));
	CHECK(take(c[1], 3));
	obs("shut %.3s, then %zd", got, read(c[1], got, 1));
	CHECK(write(c[1], "yes", 3)), CHECK(take(c[0], 3));
	obs("other way %.3s", got);
	ev.data.u64 = 0;
	CHECK(epoll_wait(ep, &ev, 1, 1000));
	obs("watched %llu", (unsigned long long)ev.data.u64);
	CHECK(take(30, 8)), obs("%.8s", got);
	CHECK(take(20, 4)), obs("%.4s, then %zd", got, send(20, "x", 1, 0));
	CHECK(read(30, got, 1)), obs("%.1s", got);
	for (int i = 0; i < 3; i++) {
		ssize_t n = read(e[1], got, 100);
		obs("message of %zd, %.3s", n, got);
	}
	reap(pid);
	savepoint();
	return 0;
}
