// TCP_QUICKACK, which programs switch off and on, and which a dialogue switches off: of a
// socket that is new, that listens, of connections in all states in which they stand still,
// and of what a listener accepts.
#include "ctl.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

enum { PLAIN, DATA, URGENT, HALF, ENDED, RESET, WAYS, TIMES = 3, MOST = 2 * (2 + TIMES * 2 * 2 * WAYS) };

static int fds[MOST], count;
static char names[MOST][40];

static void quick(int fd, int v) { CHECK(setsockopt(fd, IPPROTO_TCP, TCP_QUICKACK, &v, sizeof v)); }

static void note(int fd, const char *format, int a, int b, int c) {
	fds[count] = fd;
	snprintf(names[count++], sizeof names[0], format, a, b, c);
}

static int listener(int v6, struct sockaddr_in6 *at) {
	int fd = CHECK(socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM, 0));
	*at = (struct sockaddr_in6){AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	if (!v6)
		*(struct sockaddr_in *)at = (struct sockaddr_in){AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof *at;
	CHECK(bind(fd, (void *)at, len)), CHECK(listen(fd, 10)), CHECK(getsockname(fd, (void *)at, &len));
	return fd;
}

static int dial(int v6, struct sockaddr_in6 *at) {
	int fd = CHECK(socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM, 0));
	CHECK(connect(fd, (void *)at, v6 ? sizeof *at : sizeof(struct sockaddr_in)));
	return fd;
}

static void comes(int fd, short what) {
	struct pollfd p = {fd, what, 0};
	CHECK(poll(&p, 1, -1));
}

// answered waits until all that was sent is acknowledged, which takes 40 ms: not to do so
// at once would change the option.
static void answered(int fd) {
	struct tcp_info i;
	socklen_t n = sizeof i;
	do
		CHECK(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &i, &n));
	while (i.tcpi_unacked && nanosleep(&(struct timespec){0, 100000}, NULL) == 0);
}

// bring brings a connection to a state in which nothing is about to be acknowledged.
static void bring(int a, int b, int way) {
	if (way == DATA || way == URGENT)
		CHECK(send(a, "some", 4, way == URGENT ? MSG_OOB : 0)), comes(b, POLLIN);
	if (way == HALF || way == ENDED)
		CHECK(shutdown(a, SHUT_WR)), comes(b, POLLRDHUP);
	answered(a);
	if (way == ENDED)
		CHECK(shutdown(b, SHUT_WR)), comes(a, POLLHUP);
	if (way == RESET) {
		int n = dup(a); // closed by AF_UNSPEC, so that its number stays
		CHECK(connect(a, &(struct sockaddr){AF_UNSPEC}, sizeof(struct sockaddr))), close(n);
		comes(b, POLLRDHUP);
		socklen_t len = sizeof n;
		CHECK(getsockopt(b, SOL_SOCKET, SO_ERROR, &n, &len));
		CHECK(getsockopt(a, SOL_SOCKET, SO_ERROR, &n, &len));
	}
}

static void look(const char *when) {
	for (int i = 0; i < count; i++) {
		int v = -1;
		socklen_t n = sizeof v;
		CHECK(getsockopt(fds[i], IPPROTO_TCP, TCP_QUICKACK, &v, &n));
		obs("%s: %s: %d", when, names[i], v);
	}
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	int l[2], times = atoi(argv[1]);
	MUST(times <= TIMES);
	struct sockaddr_in6 at[2];
	for (int v6 = 0; v6 < 2; v6++) {
		int fresh = CHECK(socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM, 0));
		quick(fresh, 0);
		note(fresh, "new of IPv%d", v6 ? 6 : 4, 0, 0);
		l[v6] = listener(v6, &at[v6]);
		note(l[v6], "listener of IPv%d", v6 ? 6 : 4, 0, 0);
		for (int way = 0; way < times * WAYS; way++)
			for (int v = 0; v < 2; v++) {
				int a = dial(v6, &at[v6]), b = CHECK(accept(l[v6], NULL, NULL));
				bring(a, b, way % WAYS);
				quick(a, v), quick(b, v);
				note(a, "client of IPv%d, way %d, %d", v6 ? 6 : 4, way, v), note(b, "server of IPv%d, way %d, %d", v6 ? 6 : 4, way, v);
			}
		quick(l[v6], 0);
	}
	do {
		look("now");
		for (int v6 = 0; v6 < 2; v6++) {
			int a = dial(v6, &at[v6]), v = -1;
			socklen_t n = sizeof v;
			int b = CHECK(accept(l[v6], NULL, NULL));
			CHECK(getsockopt(b, IPPROTO_TCP, TCP_QUICKACK, &v, &n));
			obs("accepted: %d", v);
			close(a), close(b);
		}
	} while (savepoint());
	return 0;
}
