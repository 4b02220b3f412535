// Many of one thing: threads, processes, or connections to itself, as many as
// argv[2] says.
#include "ctl.h"
#include <arpa/inet.h>
#include <netinet/in.h>
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

static void connections(int n) {
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
		CHECK(accept(l, NULL, NULL));
	}
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	int n = atoi(argv[2]);
	if (!strcmp(argv[1], "threads"))
		threads(n);
	else if (!strcmp(argv[1], "processes"))
		processes(n);
	else
		connections(n);
	do
		obs("%d %s", n, argv[1]);
	while (savepoint());
	return 0;
}
