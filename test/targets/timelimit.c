// Calls on sockets with a time limit (SO_RCVTIMEO, SO_SNDTIMEO), which the kernel ends at any
// stop, as by SIGSTOP, with EINTR (signal(7)), go on. The limit is as it was.
#include "ctl.h"
#include <arpa/inet.h>
#include <pthread.h>
#include <sys/socket.h>

static int full, listener, calling, pair[2], readable[2];
static struct sockaddr_in at = {AF_INET};
static volatile long res[5];
static int ended;
static char data[1000];

static void *noted(int i, long n) {
	res[i] = n < 0 ? -errno : n;
	__atomic_add_fetch(&ended, 1, __ATOMIC_SEQ_CST);
	return NULL;
}
static void *do_connect(void *a) { (void)a; return noted(0, connect(calling, (void *)&at, sizeof at)); }
static void *do_accept(void *a) { (void)a; return noted(1, accept(listener, NULL, NULL)); }
static void *do_recv(void *a) { (void)a; return noted(2, recv(pair[0], &(char){0}, 1, 0)); }
static void *do_send(void *a) { (void)a; return noted(3, send(pair[0], data, sizeof data, 0)); }

static void *do_read(void *a) { (void)a; return noted(4, read(readable[0], &(char){0}, 1)); }

static int bound(int backlog) {
	socklen_t n = sizeof at;
	int fd = CHECK(socket(AF_INET, SOCK_STREAM, 0));
	at.sin_port = 0;
	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	CHECK(bind(fd, (void *)&at, sizeof at));
	CHECK(listen(fd, backlog));
	CHECK(getsockname(fd, (void *)&at, &n));
	return fd;
}

static void look(const char *what, int fd) {
	struct timeval r, s;
	socklen_t n = sizeof r;
	CHECK(getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &r, &n));
	CHECK(getsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &s, &n));
	obs("%s: at most %ld s to read, %ld to write", what, (long)r.tv_sec, (long)s.tv_sec);
}

static void limit(const char *what, int fd) {
	struct timeval hour = {3600, 0};
	CHECK(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &hour, sizeof hour));
	CHECK(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &hour, sizeof hour));
	look(what, fd);
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	full = bound(0);
	CHECK(connect(CHECK(socket(AF_INET, SOCK_STREAM, 0)), (void *)&at, sizeof at)); // there is room for one
	calling = CHECK(socket(AF_INET, SOCK_STREAM, 0));
	struct sockaddr_in there = at;
	listener = bound(5);
	struct sockaddr_in here = at;
	at = there;
	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair));
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, readable));
	while (send(pair[0], data, sizeof data, MSG_DONTWAIT) > 0)
		;
	limit("connect", calling), limit("accept", listener), limit("pair", pair[0]), limit("readable", readable[0]);
	pthread_t th[5];
	void *(*f[])(void *) = {do_connect, do_accept, do_recv, do_send, do_read};
	for (int i = 0; i < 5; i++)
		OK(pthread_create(&th[i], NULL, f[i], NULL));
	ctl_asleep();
	do
		obs("waiting");
	while (savepoint());
	ctl_asleep();
	obs("%d calls have ended", __atomic_load_n(&ended, __ATOMIC_SEQ_CST));
	CHECK(accept(full, NULL, NULL)); // there is room for the next one
	CHECK(connect(CHECK(socket(AF_INET, SOCK_STREAM, 0)), (void *)&here, sizeof here));
	CHECK(recv(pair[1], data, sizeof data, 0));
	MUST(send(pair[1], "a", 1, 0) == 1 && write(readable[1], "b", 1) == 1);
	const char *name[] = {"connect", "accept", "recv", "send", "read"};
	for (int i = 0; i < 5; i++) {
		OK(pthread_join(th[i], NULL));
		obs("%s: %s", name[i], res[i] < 0 ? strerror(-res[i]) : "ok");
	}
	look("connect", calling), look("accept", listener), look("pair", pair[0]), look("readable", readable[0]);
	savepoint();
	return 0;
}
