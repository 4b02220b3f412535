// Pipes: data inside, also after the writer has gone, sizes, flags, a half
// read page, packets (O_DIRECT), a full one, one whose reader a signal tells of
// what comes (O_ASYNC), as of a socket, a FIFO opened for both.
#include "ctl.h"
#include <sys/ioctl.h>
#include <sys/socket.h>

static int p[7][2], pair[2];

static void end(int i, int e) {
	int left = -1, fd = p[i][e];
	if (fcntl(fd, F_GETFD) < 0)
		return;
	CHECK(ioctl(fd, FIONREAD, &left));
	obs("%d.%d flags %o fd %d size %d data %d", i, e, fcntl(fd, F_GETFL), fcntl(fd, F_GETFD), fcntl(fd, F_GETPIPE_SZ), left);
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	CHECK(pipe(p[0])), CHECK(pipe2(p[1], O_NONBLOCK | O_CLOEXEC)), CHECK(pipe2(p[2], strcmp(argv[1], "more") ? 0 : O_DIRECT));
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	CHECK(pipe(p[3])), CHECK(pipe(p[4])), CHECK(pipe(p[5])), CHECK(pipe(p[6]));
	char buf[70000], got[70000];
	for (int i = 0; i < 70000; i++)
		buf[i] = i * 11;
	CHECK(write(p[0][1], buf, 10000)), CHECK(read(p[0][0], got, 5000));
	CHECK(fcntl(p[1][1], F_SETPIPE_SZ, 1 << 20));
	CHECK(write(p[1][1], buf, 70000));
	CHECK(write(p[2][1], "one", 3)), CHECK(write(p[2][1], "second", 6)), CHECK(write(p[2][1], buf, 4096));
	CHECK(write(p[3][1], buf, 65536)); // full
	CHECK(write(p[4][1], "last words", 10)), close(p[4][1]);
	close(p[5][0]);
	CHECK(fcntl(p[6][0], F_SETPIPE_SZ, 4096));
	CHECK(fcntl(p[6][0], F_SETFL, O_NONBLOCK)); // one end only
	sigset_t io;
	sigemptyset(&io);
	sigaddset(&io, SIGRTMIN + 3);
	CHECK(sigprocmask(SIG_BLOCK, &io, NULL));
	for (int i = 0; i < 2; i++) {
		int fd = i ? pair[0] : p[6][0];
		CHECK(fcntl(fd, F_SETOWN, getpid())), CHECK(fcntl(fd, F_SETSIG, SIGRTMIN + 3));
		CHECK(fcntl(fd, F_SETFL, O_NONBLOCK | O_ASYNC));
	}
	signal(SIGPIPE, SIG_IGN);
	do {
		struct stat a, b;
		for (int i = 0; i < 7; i++)
			end(i, 0), end(i, 1);
		CHECK(fstat(p[0][0], &a)), CHECK(fstat(p[0][1], &b));
		obs("one pipe %d", a.st_ino == b.st_ino);
		CHECK(write(p[0][1], buf + 10000, 100)), CHECK(read(p[0][0], got, 100));
		obs("through %llx", (unsigned long long)fnv(got, 100));
	} while (savepoint());
	obs("rest %zd", CHECK(read(p[1][0], got, 70000)));
	obs("same %d", !memcmp(buf, got, 70000));
	for (int i = 0; i < (strcmp(argv[1], "more") ? 1 : 3); i++) {
		ssize_t n = CHECK(read(p[2][0], got, sizeof got));
		obs("packet %zd %.3s", n, n < 10 ? got : "big");
	}
	obs("full %zd %llx", CHECK(read(p[3][0], got, 70000)), (unsigned long long)fnv(got, 65536));
	obs("left %zd then %zd", read(p[4][0], got, 100), read(p[4][0], got, 100));
	obs("no reader %zd %s", write(p[5][1], "x", 1), strerror(errno));
	obs("empty %zd %s", read(p[6][0], got, 1), strerror(errno));
	for (int i = 0; i < 2 && !strcmp(argv[1], "more"); i++) {
		siginfo_t info;
		CHECK(write(i ? pair[1] : p[6][1], "x", 1));
		CHECK(sigtimedwait(&io, &info, &(struct timespec){10}));
		obs("told of %d", info.si_fd == (i ? pair[0] : p[6][0]));
	}
	savepoint();
	return 0;
}
