// Raw sockets and those of ping: addresses, peers, filters, options, traffic.
#include "ctl.h"
#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <sys/socket.h>

#define IP_NODEFRAG 22
#define RAW_FILTER 1 // ICMP_FILTER

static struct sockaddr_in v4(const char *ip, int port) {
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
	inet_pton(AF_INET, ip, &a.sin_addr);
	return a;
}

static void tell(const char *name, int fd) {
	char own[INET6_ADDRSTRLEN] = "", peer[INET6_ADDRSTRLEN] = "none";
	struct sockaddr_storage a;
	socklen_t n = sizeof a;
	CHECK(getsockname(fd, (void *)&a, &n));
	struct sockaddr_in *four = (void *)&a;
	struct sockaddr_in6 *six = (void *)&a;
	inet_ntop(a.ss_family, a.ss_family == AF_INET ? (void *)&four->sin_addr : (void *)&six->sin6_addr, own, sizeof own);
	int port = ntohs(four->sin_port);
	n = sizeof a;
	if (!getpeername(fd, (void *)&a, &n))
		inet_ntop(a.ss_family, a.ss_family == AF_INET ? (void *)&four->sin_addr : (void *)&six->sin6_addr, peer, sizeof peer);
	int typ, protocol;
	n = sizeof typ;
	CHECK(getsockopt(fd, SOL_SOCKET, SO_TYPE, &typ, &n));
	CHECK(getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &n));
	obs("%s: type %d protocol %d at %s:%d peer %s flags %x", name, typ, protocol, own, port, peer, fcntl(fd, F_GETFL));
}

static void option(const char *name, int fd, int level, int opt) {
	unsigned char v[32] = {0};
	char text[65] = "";
	socklen_t n = sizeof v;
	if (getsockopt(fd, level, opt, v, &n)) {
		obs("%s: option %d/%d: errno %d", name, level, opt, errno);
		return;
	}
	for (unsigned i = 0; i < n; i++)
		sprintf(text + 2 * i, "%02x", v[i]);
	obs("%s: option %d/%d is %s", name, level, opt, text);
}

static void set(int fd, int level, int opt, int v) { CHECK(setsockopt(fd, level, opt, &v, sizeof v)); }

// echo sends a request and waits for its reply.
static int echo(int fd, const struct sockaddr_in *to, int raw) {
	struct icmphdr q = {.type = ICMP_ECHO, .un.echo.id = htons(77), .un.echo.sequence = htons(5)};
	uint16_t sum = ~(htons(ICMP_ECHO << 8) + htons(77) + htons(5));
	q.checksum = sum;
	CHECK(sendto(fd, &q, sizeof q, 0, (void *)to, to ? sizeof *to : 0));
	for (;;) {
		char buf[256];
		ssize_t n = CHECK(recv(fd, buf, sizeof buf, 0));
		struct icmphdr *h = (void *)(buf + (raw ? 20 : 0));
		if (h->type == ICMP_ECHOREPLY)
			return n;
	}
}

static void drain(int fd) {
	char buf[64];
	while (recv(fd, buf, sizeof buf, MSG_DONTWAIT) >= 0)
		;
}

static int ping(int family, int protocol) {
	int fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, protocol);
	if (fd < 0 && errno == EACCES) {
		int range = CHECK(open("/proc/sys/net/ipv4/ping_group_range", O_WRONLY | O_CLOEXEC));
		CHECK(write(range, "0 2147483647", 12));
		close(range);
		fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, protocol);
	}
	return CHECK(fd);
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	struct sockaddr_in lo = v4("127.0.0.1", 0), id = v4("127.0.0.1", 4711);
	struct sockaddr_in6 lo6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	int all = CHECK(socket(AF_INET, SOCK_RAW | SOCK_NONBLOCK, IPPROTO_ICMP));
	set(all, SOL_RAW, RAW_FILTER, ~(1 << ICMP_ECHOREPLY));
	set(all, IPPROTO_IP, IP_TTL, 9);
	int peer = CHECK(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP));
	CHECK(connect(peer, (void *)&lo, sizeof lo));
	int bound = CHECK(socket(AF_INET, SOCK_RAW, 253));
	CHECK(bind(bound, (void *)&lo, sizeof lo));
	set(bound, IPPROTO_IP, IP_NODEFRAG, 1), set(bound, IPPROTO_IP, IP_ROUTER_ALERT, 1);
	set(bound, IPPROTO_IP, IP_PKTINFO, 1);
	int head = CHECK(socket(AF_INET, SOCK_RAW, IPPROTO_RAW));
	int off = CHECK(socket(AF_INET, SOCK_RAW, IPPROTO_RAW));
	set(off, IPPROTO_IP, IP_HDRINCL, 0);
	int seen = CHECK(socket(AF_INET, SOCK_RAW, IPPROTO_TCP));
	struct sock_filter none[] = {BPF_STMT(BPF_RET | BPF_K, 0)};
	struct sock_fprog filter = {1, none};
	CHECK(setsockopt(seen, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter));
	int six = CHECK(socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6));
	struct icmp6_filter only;
	ICMP6_FILTER_SETBLOCKALL(&only);
	ICMP6_FILTER_SETPASS(ICMP6_ECHO_REPLY, &only);
	CHECK(setsockopt(six, IPPROTO_ICMPV6, ICMP6_FILTER, &only, sizeof only));
	CHECK(socket(AF_INET6, SOCK_RAW, IPPROTO_TCP));
	CHECK(socket(AF_INET, SOCK_RAW, IPPROTO_ICMPV6));
	int sum = CHECK(socket(AF_INET6, SOCK_RAW, 253));
	set(sum, IPPROTO_IPV6, IPV6_CHECKSUM, 4);
	set(sum, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
	CHECK(bind(sum, (void *)&lo6, sizeof lo6));
	CHECK(connect(sum, (void *)&lo6, sizeof lo6));
	int p[] = {ping(AF_INET, IPPROTO_ICMP), ping(AF_INET, IPPROTO_ICMP), ping(AF_INET6, IPPROTO_ICMPV6)};
	CHECK(bind(p[1], (void *)&id, sizeof id));
	CHECK(connect(p[1], (void *)&lo, sizeof lo));
	lo6.sin6_port = htons(4712);
	CHECK(bind(p[2], (void *)&lo6, sizeof lo6));
	int fds[] = {all, peer, bound, head, off, seen, six, sum, p[0], p[1], p[2]};
	const char *names[] = {"all", "peer", "bound", "head", "off", "seen", "six", "sum", "ping", "bound ping", "ping6"};
	do {
		for (int i = 0; i < 11; i++)
			if (i != 8) // has a number that the kernel chose, once it has sent something
				tell(names[i], fds[i]);
		option("all", all, SOL_RAW, RAW_FILTER), option("all", all, IPPROTO_IP, IP_TTL);
		option("bound", bound, IPPROTO_IP, IP_NODEFRAG), option("bound", bound, IPPROTO_IP, IP_PKTINFO);
		option("bound", bound, IPPROTO_IP, IP_ROUTER_ALERT);
		option("head", head, IPPROTO_IP, IP_HDRINCL), option("off", off, IPPROTO_IP, IP_HDRINCL);
		option("six", six, IPPROTO_ICMPV6, ICMP6_FILTER), option("six", six, IPPROTO_IPV6, IPV6_CHECKSUM);
		option("sum", sum, IPPROTO_IPV6, IPV6_CHECKSUM), option("sum", sum, IPPROTO_IPV6, IPV6_RECVPKTINFO);
		obs("echo: %d %d %d", echo(peer, NULL, 1), echo(p[0], &lo, 0), echo(p[1], NULL, 0));
		struct pollfd got = {all, POLLIN};
		poll(&got, 1, -1); // the replies to others
		char buf[64];
		obs("all: %zd, first byte %d", recv(all, buf, sizeof buf, 0), buf[20]);
		for (int i = 0; i < 11; i++)
			drain(fds[i]);
	} while (savepoint());
	return 0;
}
