// Two processes that send each other numbers with checksums, a thread for each
// way: pipes, unix sockets, TCP, and a file that one
// writes and reads again. The first thread waits by epoll for a timer, and
// appends to the file "count" how often all of them have gone on. Ends with an
// error when a number or a checksum is wrong. Runs until it is killed.
#include "ctl.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

enum { WAYS = 5, MOST = 9000 };

struct way {
	const char *name;
	int in, out;
	volatile long rounds;
} ways[WAYS];

static uint32_t sum(const unsigned char *p, size_t n) {
	uint32_t s = 2166136261u;
	while (n--)
		s = (s ^ *p++) * 16777619u;
	return s;
}

static void all(struct way *w, int writing, void *buf, size_t n) {
	for (char *p = buf; n;) {
		ssize_t k = writing ? write(w->out, p, n) : read(w->in, p, n);
		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			die("%s: %s of %zu bytes in round %ld: %zd", w->name, writing ? "write" : "read", n, w->rounds, k);
		p += k, n -= k;
	}
}

struct head {
	long round;
	uint32_t len, sum;
};

static struct head take(struct way *w, unsigned char *buf) {
	struct head h;
	all(w, 0, &h, sizeof h);
	if (h.len > MOST)
		die("%s: %u bytes in round %ld", w->name, h.len, w->rounds);
	if (h.len)
		all(w, 0, buf, h.len);
	if (h.sum != sum(buf, h.len))
		die("%s: the checksum of round %ld is wrong", w->name, h.round);
	return h;
}

static void give(struct way *w, struct head h, unsigned char *buf) {
	all(w, 1, &h, sizeof h);
	if (h.len)
		all(w, 1, buf, h.len);
}

static void *ask(void *arg) {
	struct way *w = arg;
	unsigned char buf[MOST];
	for (unsigned seed = w - ways;; nanosleep(&(struct timespec){0, 1000000}, NULL)) {
		struct head h = {w->rounds, rand_r(&seed) % MOST, 0};
		for (size_t i = 0; i < h.len; i++)
			buf[i] = rand_r(&seed);
		h.sum = sum(buf, h.len);
		give(w, h, buf);
		struct head back = take(w, buf);
		if (back.round != h.round || back.sum != h.sum || back.len != h.len)
			die("%s: round %ld of %u bytes came back as round %ld of %u", w->name, h.round, h.len, back.round, back.len);
		w->rounds++;
	}
}

static void *answer(void *arg) {
	struct way *w = arg;
	unsigned char buf[MOST];
	for (;; w->rounds++) {
		struct head h = take(w, buf);
		if (h.round != w->rounds)
			die("%s: round %ld comes instead of %ld", w->name, h.round, w->rounds);
		give(w, h, buf);
	}
}

static void *keep(void *arg) {
	int fd = CHECK(open("kept", O_RDWR | O_CREAT | O_TRUNC, 0644));
	struct way *w = arg;
	w->in = w->out = fd;
	unsigned char buf[MOST];
	for (;; nanosleep(&(struct timespec){0, 1000000}, NULL)) {
		memset(buf, w->rounds, MOST);
		struct head h = {w->rounds, w->rounds % MOST, sum(buf, w->rounds % MOST)};
		off_t at = CHECK(lseek(fd, 0, SEEK_CUR));
		give(w, h, buf);
		CHECK(lseek(fd, at, SEEK_SET));
		if (take(w, buf).round != w->rounds++)
			die("the file has another round");
		if (lseek(fd, 0, SEEK_CUR) > 1 << 20)
			CHECK(lseek(fd, 0, SEEK_SET));
	}
}

static void tcp(int end[2]) {
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof at;
	int l = CHECK(socket(AF_INET, SOCK_STREAM, 0));
	CHECK(bind(l, (void *)&at, len)), CHECK(listen(l, 5)), CHECK(getsockname(l, (void *)&at, &len));
	end[0] = CHECK(socket(AF_INET, SOCK_STREAM, 0));
	CHECK(connect(end[0], (void *)&at, len));
	end[1] = CHECK(accept(l, NULL, NULL));
	for (int i = 0; i < 2; i++)
		CHECK(setsockopt(end[i], IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int)));
}

static void start(void *(*body)(void *), struct way *w) {
	pthread_t th;
	OK(pthread_create(&th, NULL, body, w));
}

static void beat(int epoll, int count) {
	long least = 0, line = 0;
	for (;;) {
		struct epoll_event e;
		uint64_t n;
		if (epoll_wait(epoll, &e, 1, -1) == 1)
			CHECK(read(e.data.fd, &n, 8));
		long now = ways[0].rounds;
		for (int i = 1; i < WAYS; i++)
			now = ways[i].rounds < now ? ways[i].rounds : now;
		if (now == least)
			continue;
		dprintf(count, "%ld\n", line++);
		least = now;
	}
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	int a[2], b[2], stream[2], second[2], conn[2];
	CHECK(pipe(a)), CHECK(pipe(b));
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, stream)), CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, second));
	tcp(conn);
	int timer = CHECK(timerfd_create(CLOCK_MONOTONIC, 0)), epoll = CHECK(epoll_create1(0)), pid = CHECK(fork());
	const char *names[] = {"pipes", "stream", "second", "tcp", "file"};
	int in[] = {pid ? b[0] : a[0], stream[!pid], second[!pid], conn[!pid]}, out[] = {pid ? a[1] : b[1], stream[!pid], second[!pid], conn[!pid]};
	for (int i = 0; i < WAYS; i++) {
		ways[i].name = names[i];
		if (i < WAYS - 1)
			ways[i].in = in[i], ways[i].out = out[i], start(pid ? ask : answer, &ways[i]);
	}
	if (!pid) {
		CHECK(prctl(PR_SET_PDEATHSIG, SIGKILL));
		for (;;)
			pause();
	}
	start(keep, &ways[WAYS - 1]);
	CHECK(timerfd_settime(timer, 0, &(struct itimerspec){{0, 2000000}, {0, 2000000}}, NULL));
	CHECK(epoll_ctl(epoll, EPOLL_CTL_ADD, timer, &(struct epoll_event){.events = EPOLLIN, .data.fd = timer}));
	beat(epoll, CHECK(open("count", O_WRONLY | O_CREAT | O_APPEND, 0644)));
}
