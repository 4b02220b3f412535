// Sockets at an address that this machine doesn't have, which an option let them
// have that is off since: of UDP, connected, too, of TCP, listening, too, and raw.
#include "ctl.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

enum { SORTS = 10 };

static int option(int fd, int v6, int transparent) {
	int value;
	socklen_t size = sizeof value;
	CHECK(getsockopt(fd, v6 ? IPPROTO_IPV6 : IPPROTO_IP, v6 ? (transparent ? IPV6_TRANSPARENT : IPV6_FREEBIND) : (transparent ? IP_TRANSPARENT : IP_FREEBIND), &value, &size));
	return value;
}

static void set(int fd, int v6, int transparent, int v) {
	CHECK(setsockopt(fd, v6 ? IPPROTO_IPV6 : IPPROTO_IP, v6 ? (transparent ? IPV6_TRANSPARENT : IPV6_FREEBIND) : (transparent ? IP_TRANSPARENT : IP_FREEBIND), &v, sizeof v));
}

static struct sockaddr_in6 at(int v6, const char *ip4, const char *ip6, int port) {
	struct sockaddr_in6 a = {.sin6_family = v6 ? AF_INET6 : AF_INET, .sin6_port = htons(port)};
	MUST(inet_pton(a.sin6_family, v6 ? ip6 : ip4, v6 ? (void *)&a.sin6_addr : &((struct sockaddr_in *)&a)->sin_addr) == 1);
	return a;
}

// make makes one of sort i: 0 and 1 UDP, 2 and 3 TCP, 4 raw; the odd ones are
// connected, or listen.
static int make(int i, int v6) {
	int fd = CHECK(socket(v6 ? AF_INET6 : AF_INET, i < 2 ? SOCK_DGRAM : i < 4 ? SOCK_STREAM : SOCK_RAW, i < 4 ? 0 : 253));
	struct sockaddr_in6 own = at(v6, "192.0.2.7", "2001:db8::7", 7000 + i), peer = at(v6, "127.0.0.1", "::1", 9);
	set(fd, v6, i == 1, 1);
	CHECK(bind(fd, (void *)&own, v6 ? sizeof own : sizeof(struct sockaddr_in)));
	if (i == 1)
		CHECK(connect(fd, (void *)&peer, v6 ? sizeof peer : sizeof(struct sockaddr_in)));
	if (i == 3)
		CHECK(listen(fd, 3));
	set(fd, v6, i == 1, 0);
	return fd;
}

static void look(int i, int fd, int v6) {
	struct sockaddr_in6 a[2] = {{0}, {0}};
	socklen_t len[2] = {sizeof a[0], sizeof a[1]};
	CHECK(getsockname(fd, (void *)&a[0], &len[0]));
	int peer = getpeername(fd, (void *)&a[1], &len[1]);
	obs("sort %d, IPv%d: at %llx, peer %d %llx, options %d %d", i, v6 ? 6 : 4, (unsigned long long)fnv(&a[0], len[0]), peer, (unsigned long long)fnv(&a[1], peer ? 0 : len[1]), option(fd, v6, 0), option(fd, v6, 1));
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	int fd[SORTS];
	for (int i = 0; i < SORTS; i++)
		fd[i] = make(i / 2, i % 2);
	do {
		for (int i = 0; i < SORTS; i++)
			look(i / 2, fd[i], i % 2);
	} while (savepoint());
	return 0;
}
