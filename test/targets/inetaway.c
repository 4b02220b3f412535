// A connection that waits to be accepted, with TCP listeners, TCP sockets that are about to
// begin, or whose connection has ended, and UDP sockets that are in no process.
#include "unix.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

enum { ENDED = 10 }; // the first that was connected

static int fds[32], n, ports[32];

static int keep(int fd) { return fds[n++] = CHECK(fd); }
static void opt(int fd, int level, int name, int v) { CHECK(setsockopt(fd, level, name, &v, sizeof v)); }

// at returns an address of the loopback interface.
static socklen_t at(struct sockaddr_storage *a, int family, int port) {
	memset(a, 0, sizeof *a), a->ss_family = family;
	if (family == AF_INET) {
		struct sockaddr_in *x = (void *)a;
		x->sin_port = htons(port), x->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		return sizeof *x;
	}
	struct sockaddr_in6 *x = (void *)a;
	x->sin6_port = htons(port), x->sin6_addr = in6addr_loopback;
	return sizeof *x;
}

static int bind_to(int family, int type, int port) {
	struct sockaddr_storage a;
	int fd = CHECK(socket(family, type, 0));
	if (type == SOCK_STREAM)
		opt(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	socklen_t len = at(&a, family, port);
	CHECK(bind(fd, (void *)&a, len));
	return fd;
}

static void look_inet(int i, int fd) {
	static const struct { int level, name; } all[] = {
		{SOL_SOCKET, SO_TYPE}, {SOL_SOCKET, SO_PROTOCOL}, {SOL_SOCKET, SO_DOMAIN}, {SOL_SOCKET, SO_REUSEADDR}, {SOL_SOCKET, SO_KEEPALIVE}, {SOL_SOCKET, SO_SNDBUF},
		{SOL_SOCKET, SO_RCVBUF}, {SOL_SOCKET, SO_BROADCAST}, {SOL_SOCKET, SO_PRIORITY}, {SOL_SOCKET, SO_MARK}, {SOL_SOCKET, SO_ACCEPTCONN}, {SOL_SOCKET, SO_RCVLOWAT},
		{SOL_SOCKET, SO_BUF_LOCK}, {IPPROTO_IP, IP_TOS}, {IPPROTO_IP, IP_TTL}, {IPPROTO_IP, IP_PKTINFO}, {IPPROTO_IP, IP_MTU_DISCOVER}, {IPPROTO_IP, IP_MULTICAST_TTL}, {IPPROTO_IPV6, IPV6_V6ONLY},
		{IPPROTO_IPV6, IPV6_UNICAST_HOPS}, {IPPROTO_IPV6, IPV6_RECVPKTINFO}, {IPPROTO_TCP, TCP_NODELAY}, {IPPROTO_TCP, TCP_KEEPIDLE}, {IPPROTO_TCP, TCP_KEEPINTVL},
		{IPPROTO_TCP, TCP_KEEPCNT}, {IPPROTO_TCP, TCP_USER_TIMEOUT}, {IPPROTO_TCP, TCP_DEFER_ACCEPT}, {IPPROTO_TCP, TCP_SYNCNT}};
	char text[600] = "", name[60];
	for (unsigned j = 0; j < sizeof all / sizeof *all; j++) {
		int v = 0;
		if (i >= ENDED && all[j].name == IP_MULTICAST_TTL && all[j].level == IPPROTO_IP)
			continue; // TCP takes none, and it is that of its peer
		socklen_t len = sizeof v;
		sprintf(text + strlen(text), " %d", getsockopt(fd, all[j].level, all[j].name, &v, &len) ? -errno : v);
	}
	struct sockaddr_storage a;
	for (int peer = 0; peer < 2; peer++) {
		socklen_t len = sizeof a;
		memset(&a, 0, sizeof a);
		if ((peer ? getpeername : getsockname)(fd, (void *)&a, &len)) {
			sprintf(text + strlen(text), ", %d", errno);
			continue;
		}
		inet_ntop(a.ss_family, a.ss_family == AF_INET ? (void *)&((struct sockaddr_in *)&a)->sin_addr : (void *)&((struct sockaddr_in6 *)&a)->sin6_addr, name, sizeof name);
		int port = ntohs(((struct sockaddr_in *)&a)->sin_port);
		sprintf(text + strlen(text), ", %s port %d", name, i < ENDED ? port : port == ports[i]);
	}
	obs("%d: flags %o%s", i, fcntl(fd, F_GETFL), text);
}

// ended returns an end of a connection that has ended, of a client or accepted, after its
// peer has sent data: by a reset, one after the peer's end, or by both.
static int ended(int family, int accepted, int how) {
	static char data[30000];
	struct sockaddr_storage a;
	int l = bind_to(family, SOCK_STREAM, 0), s = CHECK(socket(family, SOCK_STREAM, 0)), p[2];
	socklen_t len = sizeof a;
	CHECK(listen(l, 1)), CHECK(getsockname(l, (void *)&a, &len)), CHECK(connect(s, (void *)&a, len));
	p[!accepted] = CHECK(accept(l, NULL, NULL)), p[accepted] = s, close(l);
	MUST(write(p[1], data, how ? sizeof data : 500) > 0);
	if (how)
		CHECK(shutdown(p[1], SHUT_WR)), CHECK(poll(&(struct pollfd){p[0], POLLRDHUP, 0}, 1, -1));
	if (how == 2)
		CHECK(shutdown(p[0], SHUT_WR));
	else
		CHECK(setsockopt(p[1], SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger))), CHECK(close(p[1]));
	CHECK(poll(&(struct pollfd){p[0], 0, 0}, 1, -1)); // its end
	if (how == 2)
		CHECK(close(p[1]));
	return p[0];
}

// declined returns a socket whose connect(2) was refused.
static int declined(void) {
	struct sockaddr_storage a;
	socklen_t len = sizeof a;
	int l = bind_to(AF_INET, SOCK_STREAM, 0), s = CHECK(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
	CHECK(getsockname(l, (void *)&a, &len)), close(l);
	MUST(connect(s, (void *)&a, len) < 0 && errno == EINPROGRESS);
	CHECK(poll(&(struct pollfd){s, POLLIN, 0}, 1, -1));
	return s;
}

// last notes what is left of a connection.
static void last(int i, int fd) {
	static char data[40000];
	int n = 0, error = 0;
	socklen_t len = sizeof error;
	struct pollfd p = {fd, POLLIN | POLLRDHUP, 0};
	CHECK(ioctl(fd, FIONREAD, &n)), CHECK(poll(&p, 1, 0));
	ssize_t r = n ? recv(fd, data, sizeof data, MSG_DONTWAIT) : 0;
	CHECK(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len));
	obs("%d: %d bytes, %zd read, events %x, error %d, then %zd", i, n, r, p.revents, error, recv(fd, data, sizeof data, MSG_DONTWAIT));
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	int l = add("door", listening(SOCK_STREAM, NAME("door"))), c = add("client", client(SOCK_STREAM, NAME("door")));
	struct sockaddr_storage a;
	socklen_t len;
	// 0-2: listeners: plain, with options as those of programs in Go, and of IPv6.
	CHECK(listen(keep(bind_to(AF_INET, SOCK_STREAM, 21101)), 7));
	int s = keep(bind_to(AF_INET, SOCK_STREAM, 21102));
	opt(s, SOL_SOCKET, SO_KEEPALIVE, 1), opt(s, IPPROTO_TCP, TCP_KEEPIDLE, 15), opt(s, IPPROTO_TCP, TCP_KEEPINTVL, 16), opt(s, IPPROTO_TCP, TCP_KEEPCNT, 8);
	opt(s, IPPROTO_TCP, TCP_NODELAY, 1), opt(s, SOL_SOCKET, SO_RCVBUF, 300000), opt(s, IPPROTO_IP, IP_TOS, 0x10), opt(s, IPPROTO_TCP, TCP_USER_TIMEOUT, 9000);
	CHECK(listen(s, 100)), CHECK(fcntl(s, F_SETFL, O_NONBLOCK));
	s = keep(bind_to(AF_INET6, SOCK_STREAM, 21103)), opt(s, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 9), CHECK(listen(s, 5));
	// 3, 4: such that are bound, and that are nothing yet.
	keep(bind_to(AF_INET, SOCK_STREAM, 21104)), s = keep(socket(AF_INET6, SOCK_STREAM, 0)), opt(s, SOL_SOCKET, SO_SNDBUF, 50000);
	// 5-9: UDP sockets: bound, with options, connected, of IPv6, nothing yet.
	keep(bind_to(AF_INET, SOCK_DGRAM, 21105)), s = keep(bind_to(AF_INET, SOCK_DGRAM, 21106));
	opt(s, SOL_SOCKET, SO_BROADCAST, 1), opt(s, SOL_SOCKET, SO_RCVBUF, 70000), opt(s, SOL_SOCKET, SO_PRIORITY, 3), opt(s, SOL_SOCKET, SO_MARK, 77), opt(s, IPPROTO_IP, IP_PKTINFO, 1);
	opt(s, IPPROTO_IP, IP_TTL, 33), opt(s, IPPROTO_IP, IP_MULTICAST_TTL, 4), opt(s, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO);
	len = at(&a, AF_INET, 21105), s = keep(bind_to(AF_INET, SOCK_DGRAM, 21107)), CHECK(connect(s, (void *)&a, len));
	s = keep(bind_to(AF_INET6, SOCK_DGRAM, 21108)), opt(s, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1), keep(socket(AF_INET6, SOCK_DGRAM, 0));
	// From ENDED on, such as have ended, with and without options.
	for (int i = 0; i < 12; i++) {
		s = keep(ended(i & 1 ? AF_INET6 : AF_INET, i >> 1 & 1, i / 4));
		if (i % 3 == 1)
			opt(s, SOL_SOCKET, SO_KEEPALIVE, 1), opt(s, IPPROTO_TCP, TCP_KEEPIDLE, 15), opt(s, SOL_SOCKET, SO_SNDBUF, 50000);
	}
	keep(declined());
	with(c, "files", 5, fds, n, NULL);
	for (int i = ENDED; i < n; i++)
		len = sizeof a, CHECK(getsockname(fds[i], (void *)&a, &len)), ports[i] = ntohs(((struct sockaddr_in *)&a)->sin_port);
	for (int i = 0; i < n; i++)
		CHECK(close(fds[i]));
	do
		look_all();
	while (savepoint());

	int in = CHECK(accept(l, NULL, NULL)), got[32];
	char data[20], control[CMSG_SPACE(sizeof got)];
	struct iovec v = {data, sizeof data};
	struct msghdr h = {NULL, 0, &v, 1, control, sizeof control, 0};
	MUST(CHECK(recvmsg(in, &h, 0)) == 5 && CMSG_FIRSTHDR(&h)->cmsg_len == CMSG_LEN(n * sizeof(int)));
	memcpy(got, CMSG_DATA(CMSG_FIRSTHDR(&h)), n * sizeof(int));
	for (int i = 0; i < n; i++)
		look_inet(i, got[i]);
	for (int i = ENDED; i < n; i++)
		last(i, got[i]);
	for (int i = 0; i < 3; i++) {
		len = at(&a, i == 2 ? AF_INET6 : AF_INET, 21101 + i);
		s = CHECK(socket(a.ss_family, SOCK_STREAM, 0)), CHECK(connect(s, (void *)&a, len)), CHECK(write(s, "hello", 5));
		CHECK(poll(&(struct pollfd){got[i], POLLIN, 0}, 1, -1)), in = CHECK(accept(got[i], NULL, NULL));
		obs("accepted %zd, nodelay %d", read(in, data, sizeof data), ({ int o = 0; socklen_t ol = sizeof o; getsockopt(in, IPPROTO_TCP, TCP_NODELAY, &o, &ol); o; }));
	}
	CHECK(listen(got[3], 1)), CHECK(send(got[7], "datagram", 8, 0)), obs("came %zd", recv(got[5], data, sizeof data, 0));
	len = at(&a, AF_INET6, 21108), CHECK(sendto(got[9], "to six", 6, 0, (void *)&a, len)), obs("came %zd", recv(got[8], data, sizeof data, 0));
	savepoint();
	return 0;
}
