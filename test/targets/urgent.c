// Urgent data in what was sent over TCP connections and didn't get through yet, and in
// what waits to be read from them: first, in between,
// last; in the stream (SO_OOBINLINE) and apart; read already while what is around
// it waits. Over IPv4 and IPv6.
#include "ctl.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

enum { PLACES = 4, WAYS = 3, SORTS = 2, ALL = PLACES * WAYS * SORTS };
enum { APART, INLINE, READ };

static const char *before[PLACES] = {"", "before", "before", ""}, *behind[PLACES] = {"behind", "behind", "", ""};

static void pair(int sort, int *a, int *b) {
	struct sockaddr_in6 at = {AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	struct sockaddr_in in = {AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sort ? sizeof at : sizeof in;
	int l = CHECK(socket(sort ? AF_INET6 : AF_INET, SOCK_STREAM, 0));
	CHECK(bind(l, sort ? (void *)&at : (void *)&in, len));
	CHECK(listen(l, 1));
	CHECK(getsockname(l, (void *)&at, &len));
	*a = CHECK(socket(sort ? AF_INET6 : AF_INET, SOCK_STREAM, 0));
	CHECK(connect(*a, (void *)&at, len));
	*b = CHECK(accept(l, NULL, NULL));
	close(l);
}

static void give(int fd, const char *text, int flags) {
	if (*text)
		MUST(send(fd, text, strlen(text), flags) == (ssize_t)strlen(text));
}

static void look(int i, int fd) {
	char b[20] = "", urgent = '-';
	int mark = -1;
	struct pollfd p = {fd, POLLIN | POLLPRI, 0};
	poll(&p, 1, 0);
	obs("%d: events %x", i, p.revents);
	for (int r; (r = recv(fd, b, sizeof b - 1, MSG_DONTWAIT)) > 0;) {
		b[r] = 0;
		CHECK(ioctl(fd, SIOCATMARK, &mark));
		obs("%d: read %s, at the mark %d", i, b, mark);
		if (mark) {
			int n = recv(fd, &urgent, 1, MSG_OOB | MSG_DONTWAIT);
			obs("%d: urgent %d %c", i, n < 0 ? errno : n, urgent);
		}
	}
	int n = recv(fd, &urgent, 1, MSG_OOB | MSG_DONTWAIT);
	obs("%d: in the end %d %c", i, n < 0 ? errno : n, urgent);
}

enum { MUCH = 500000, MORE = 1000 };

// crowd sends more than the other end has room for, and then something urgent.
static void crowd(int a) {
	static char much[MUCH + MORE];
	memset(much, 'x', sizeof much);
	CHECK(setsockopt(a, SOL_SOCKET, SO_SNDBUF, &(int){2 * MUCH}, sizeof(int)));
	MUST(send(a, much, MUCH, 0) == MUCH);
	give(a, "!", MSG_OOB);
	MUST(send(a, much, MORE, 0) == MORE);
}

// scatter reads all of that.
static void scatter(int i, int fd) {
	static char b[MUCH + MORE];
	int mark = 0, place = -1, got = 0;
	char urgent = '-';
	for (int r; got < MUCH + MORE; got += r) {
		CHECK(ioctl(fd, SIOCATMARK, &mark));
		if (mark)
			place = got;
		MUST((r = recv(fd, b, MUCH + MORE - got, 0)) > 0);
	}
	int n = recv(fd, &urgent, 1, MSG_OOB | MSG_DONTWAIT);
	obs("crowded %d: %d bytes, the mark at %d, urgent %d %c", i, got, place, n < 0 ? errno : n, urgent);
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	int a[ALL], b[ALL], full[SORTS][2], more;
	for (int i = 0; i < ALL; i++)
		pair(i % SORTS, &a[i], &b[i]);
	do {
		for (int i = 0; i < SORTS; i++) {
			pair(i, &full[i][0], &full[i][1]);
			CHECK(setsockopt(full[i][1], SOL_SOCKET, SO_RCVBUF, &(int){100000}, sizeof(int)));
			crowd(full[i][0]);
		}
		for (int i = 0; i < ALL; i++) {
			int place = i / SORTS % PLACES, way = i / SORTS / PLACES;
			char c;
			CHECK(setsockopt(b[i], SOL_SOCKET, SO_OOBINLINE, &(int){way == INLINE}, sizeof(int)));
			// That a byte was read, and is the last, shows nowhere.
			const char *more = way == READ && place == 2 ? "more" : behind[place];
			give(a[i], before[place], 0), give(a[i], "!", MSG_OOB), give(a[i], more, 0);
			struct pollfd p = {b[i], POLLPRI, 0};
			MUST(poll(&p, 1, 20000) == 1);
			if (way == READ)
				MUST(recv(b[i], &c, 1, MSG_OOB) == 1);
		}
		more = savepoint();
		for (int i = 0; i < ALL; i++)
			look(i, b[i]);
		for (int i = 0; i < SORTS; i++)
			scatter(i, full[i][1]), close(full[i][0]), close(full[i][1]);
	} while (more);
	return 0;
}
