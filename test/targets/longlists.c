// A lot of one thing (argv[1]), so many (argv[2]), that one descriptor has, or that only the
// process is asked for.
#include "ctl.h"
#include <netinet/in.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <time.h>

static void watches(int n) {
	int in = CHECK(inotify_init1(IN_NONBLOCK));
	char name[32];
	for (int i = 0; i < n; i++) {
		snprintf(name, sizeof name, "watched.%d", i);
		close(CHECK(open(name, O_CREAT | O_WRONLY, 0600)));
		CHECK(inotify_add_watch(in, name, IN_MODIFY));
	}
}

static void timers(int n) {
	for (int i = 0; i < n; i++) {
		timer_t t;
		struct sigevent none = {.sigev_notify = SIGEV_NONE};
		CHECK(timer_create(CLOCK_MONOTONIC, &none, &t));
	}
}

// queue fills a queue with messages of one byte.
static void queue(int from, int to, int n) {
	int room = 1 << 28;
	CHECK(setsockopt(from, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room));
	CHECK(setsockopt(to, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room));
	for (int i = 0; i < n; i++)
		CHECK(send(from, "x", 1, 0));
}

static void messages(int n) {
	int pair[2];
	CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair));
	queue(pair[0], pair[1], n);
}

static void stream(int n) {
	int pair[2];
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	queue(pair[0], pair[1], n);
}

static void datagrams(int n) {
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof a;
	int s = CHECK(socket(AF_INET, SOCK_DGRAM, 0));
	CHECK(bind(s, (void *)&a, sizeof a));
	CHECK(getsockname(s, (void *)&a, &len));
	CHECK(connect(s, (void *)&a, len));
	queue(s, s, n);
}

static void processes(int n) {
	for (int i = 0; i < n; i++)
		if (CHECK(fork()) == 0)
			for (;;)
				pause();
}

int main(int argc, char **argv) {
	static const struct {
		char *name;
		void (*make)(int n);
	} kinds[] = {{"watches", watches}, {"timers", timers}, {"messages", messages}, {"stream", stream}, {"datagrams", datagrams}, {"processes", processes}};
	ctl_init(argc, argv);
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
		if (!strcmp(argv[1], kinds[i].name))
			kinds[i].make(atoi(argv[2]));
	do
		obs("%s %s", argv[1], argv[2]);
	while (savepoint());
	return 0;
}
