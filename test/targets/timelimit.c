// Calls on sockets with a time limit (SO_RCVTIMEO, SO_SNDTIMEO): the kernel ends them at any
// stop, as by SIGSTOP, with EINTR (signal(7)). The limit is as it was, and what connect(2)
// has begun goes on.
#include "ctl.h"
#include <arpa/inet.h>
#include <pthread.h>
#include <sys/socket.h>

static int listener, calling, pair[2];
static struct sockaddr_in at = {AF_INET};
static volatile long res[4];
static int ended;
static char data[1000];

static pthread_mutex_t end = PTHREAD_MUTEX_INITIALIZER;

// noted keeps the thread until the end, so that there are as many all the time.
static void *noted(int i, long n) {
	res[i] = n < 0 ? -errno : n;
	__atomic_add_fetch(&ended, 1, __ATOMIC_SEQ_CST);
	OK(pthread_mutex_lock(&end));
	OK(pthread_mutex_unlock(&end));
	return NULL;
}
static void *do_connect(void *a) { (void)a; return noted(0, connect(calling, (void *)&at, sizeof at)); }
static void *do_accept(void *a) { (void)a; return noted(1, accept(listener, NULL, NULL)); }
static void *do_recv(void *a) { (void)a; return noted(2, recv(pair[0], &(char){0}, 1, 0)); }
static void *do_send(void *a) { (void)a; return noted(3, send(pair[0], data, sizeof data, 0)); }

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
	listener = bound(0);
	CHECK(connect(CHECK(socket(AF_INET, SOCK_STREAM, 0)), (void *)&at, sizeof at)); // there is room for one
	calling = CHECK(socket(AF_INET, SOCK_STREAM, 0));
	struct sockaddr_in there = at;
	listener = bound(5);
	at = there;
	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair));
	while (send(pair[0], data, sizeof data, MSG_DONTWAIT) > 0)
		;
	limit("connect", calling), limit("accept", listener), limit("pair", pair[0]);
	OK(pthread_mutex_lock(&end));
	pthread_t th[4];
	void *(*f[])(void *) = {do_connect, do_accept, do_recv, do_send};
	for (int i = 0; i < 4; i++)
		OK(pthread_create(&th[i], NULL, f[i], NULL));
	ctl_asleep();
	do
		obs("waiting");
	while (savepoint());
	if (__atomic_load_n(&ended, __ATOMIC_SEQ_CST) == 0)
		ctl_interrupt();
	OK(pthread_mutex_unlock(&end));
	const char *name[] = {"connect", "accept", "recv", "send"};
	for (int i = 0; i < 4; i++) {
		OK(pthread_join(th[i], NULL));
		obs("%s: %s", name[i], res[i] < 0 ? strerror(-res[i]) : "ok");
	}
	CHECK(fcntl(calling, F_SETFL, O_NONBLOCK));
	obs("connect once more: %s", connect(calling, (void *)&there, sizeof there) ? strerror(errno) : "ok");
	look("connect", calling), look("accept", listener), look("pair", pair[0]);
	savepoint();
	return 0;
}
