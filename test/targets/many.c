// Many of one thing: threads, processes, files, deleted ones, listeners, connections to itself, with
// or without something to be read, or all with other options, pairs of sockets, or sockets with a lot
// to be read, as many as argv[2] says.
#include "ctl.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/socket.h>

static void *idle(void *arg) {
	for (;;)
		pause();
	return arg;
}

static void threads(int n) {
	pthread_attr_t small;
	OK(pthread_attr_init(&small));
	OK(pthread_attr_setstacksize(&small, 1 << 15));
	for (int i = 0; i < n; i++) {
		pthread_t th;
		OK(pthread_create(&th, &small, idle, NULL));
	}
}

static void processes(int n) {
	for (int i = 0; i < n; i++)
		if (CHECK(fork()) == 0) {
			CHECK(prctl(PR_SET_PDEATHSIG, SIGKILL));
			idle(NULL);
		}
}

// Open files of several processes, since one may not have so many: one has `per` of what
// `one` makes.
static void apart(int n, int per, void (*one)(int i, const char *dir), const char *dir) {
	int s[2];
	CHECK(pipe(s));
	for (int from = 0; from < n; from += per) {
		if (CHECK(fork()) == 0) {
			CHECK(prctl(PR_SET_PDEATHSIG, SIGKILL));
			CHECK(setrlimit(RLIMIT_NOFILE, &(struct rlimit){10050, 10050}));
			for (int i = from; i < from + per && i < n; i++)
				one(i, dir);
			CHECK(write(s[1], "", 1));
			idle(NULL);
		}
	}
	char c;
	for (int from = 0; from < n; from += per)
		CHECK(read(s[0], &c, 1));
}

static void file(int i, const char *dir) {
	char name[300];
	snprintf(name, sizeof name, "%s/file-%d", dir, i);
	int fd = CHECK(open(name, O_RDWR | O_CREAT, 0600));
	CHECK(write(fd, name, i % 7));
}

static void ghost(int i, const char *dir) {
	char name[300], some[4000] = "some";
	snprintf(name, sizeof name, "%s/ghost-%d", dir, i);
	int fd = CHECK(open(name, O_RDWR | O_CREAT, 0600));
	CHECK(write(fd, some, sizeof some));
	CHECK(unlink(name));
}

// A listener at a port of its own; each process has an address of its own.
static int listener(int i, const char *dir) {
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK + getpid() % 100000)};
	int l = CHECK(socket(AF_INET, SOCK_STREAM, 0));
	CHECK(bind(l, (void *)&a, sizeof a));
	CHECK(listen(l, 16));
	return l;
}

static void listeners(int i, const char *dir) { listener(i, dir); }

// A connection with options that others don't have, and something to be read at both ends.
static void unlike(int i, const char *dir) {
	static int l;
	struct sockaddr_in a;
	socklen_t len = sizeof a;
	if (!l)
		l = listener(i, dir);
	CHECK(getsockname(l, (void *)&a, &len));
	int s = CHECK(socket(AF_INET, SOCK_STREAM, 0));
	CHECK(connect(s, (void *)&a, len));
	int t = CHECK(accept(l, NULL, NULL));
	char some[1024] = "some";
	CHECK(setsockopt(s, SOL_SOCKET, SO_RCVBUF, &(int){65536 + 128 * i}, sizeof i));
	CHECK(setsockopt(t, IPPROTO_TCP, TCP_KEEPIDLE, &(int){30 + i % 1000}, sizeof i));
	CHECK(write(s, some, 1 + i % sizeof some));
	CHECK(write(t, some, 1 + i * 7 % sizeof some));
}

static void pair(int i, const char *dir) {
	int s[2];
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
}

// Connections, with so many bytes to be read at both ends.
static void connections(int n, size_t bytes) {
	CHECK(setrlimit(RLIMIT_NOFILE, &(struct rlimit){2 * n + 50, 2 * n + 50}));
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof a;
	int l = CHECK(socket(AF_INET, SOCK_STREAM, 0));
	CHECK(bind(l, (void *)&a, len));
	CHECK(listen(l, 16));
	CHECK(getsockname(l, (void *)&a, &len));
	for (int i = 0; i < n; i++) {
		int s = CHECK(socket(AF_INET, SOCK_STREAM, 0));
		CHECK(connect(s, (void *)&a, len));
		int t = CHECK(accept(l, NULL, NULL));
		char some[256] = "some";
		CHECK(write(s, some, bytes));
		CHECK(write(t, some, bytes));
	}
}

enum { each = 1 << 20 }; // bytes in a queue

static int *queued; // ends with something to be read

// fill queues bytes that tell where they are.
static void fill(int fd, int i) {
	static unsigned words[each / sizeof(unsigned)];
	for (unsigned k = 0; k < sizeof words / sizeof *words; k++)
		words[k] = (i * 1000003u + k) * 2654435761u;
	for (size_t done = 0; done < each;)
		done += CHECK(write(fd, (char *)words + done, each - done));
}

// still tells whether all queues have what fill put there.
static int still(int n) {
	static unsigned words[each / sizeof(unsigned)];
	for (int i = 0; i < n; i++) {
		if (CHECK(recv(queued[i], words, each, MSG_PEEK | MSG_WAITALL)) != each)
			return 0;
		for (unsigned k = 0; k < sizeof words / sizeof *words; k++)
			if (words[k] != (i * 1000003u + k) * 2654435761u)
				return 0;
	}
	return 1;
}

// Connections, and pairs of unix sockets, in turn, with a lot to be read.
static void queues(int n) {
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof a;
	int much = 4 * each, s[2];
	int l = CHECK(socket(AF_INET, SOCK_STREAM, 0));
	CHECK(setsockopt(l, SOL_SOCKET, SO_RCVBUFFORCE, &much, sizeof much));
	CHECK(bind(l, (void *)&a, len));
	CHECK(listen(l, 16));
	CHECK(getsockname(l, (void *)&a, &len));
	queued = calloc(n, sizeof *queued);
	for (int i = 0; i < n; i++) {
		if (i % 2 == 0) {
			s[0] = CHECK(socket(AF_INET, SOCK_STREAM, 0));
			CHECK(connect(s[0], (void *)&a, len));
			s[1] = CHECK(accept(l, NULL, NULL));
		} else
			CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
		CHECK(setsockopt(s[0], SOL_SOCKET, SO_SNDBUFFORCE, &much, sizeof much));
		fill(s[0], i);
		queued[i] = s[1];
	}
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	int n = atoi(argv[2]);
	if (!strcmp(argv[1], "threads"))
		threads(n);
	else if (!strcmp(argv[1], "processes"))
		processes(n);
	else if (!strcmp(argv[1], "files"))
		apart(n, 10000, file, argv[3]);
	else if (!strcmp(argv[1], "ghosts"))
		apart(n, 9900, ghost, argv[3]);
	else if (!strcmp(argv[1], "listeners"))
		apart(n, 9900, listeners, NULL);
	else if (!strcmp(argv[1], "unlike"))
		apart(n, 4900, unlike, NULL);
	else if (!strcmp(argv[1], "pairs"))
		apart(n, 5000, pair, NULL);
	else if (!strcmp(argv[1], "queues"))
		queues(n);
	else
		connections(n, strcmp(argv[1], "exchanges") ? 0 : 100);
	do {
		if (queued && !still(n))
			return 1;
		obs("%d %s", n, argv[1]);
	} while (savepoint());
	return 0;
}
