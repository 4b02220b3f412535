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

// Sockets in whose queues something waits at each save point.
static struct {
	const char *name;
	int fd;
} full[8];

static void add_full(const char *name, int fd) {
	int i = 0;
	while (full[i].name)
		i++;
	full[i].name = name, full[i].fd = fd;
}

// unread tells what waits.
static void unread(void) {
	for (int i = 0; full[i].name; i++)
		for (;;) {
			unsigned char buf[4096];
			char from[INET6_ADDRSTRLEN] = "";
			struct sockaddr_storage a;
			socklen_t n = sizeof a;
			ssize_t len = recvfrom(full[i].fd, buf, sizeof buf, MSG_DONTWAIT, (void *)&a, &n);
			if (len < 0)
				break;
			inet_ntop(a.ss_family, a.ss_family == AF_INET ? (void *)&((struct sockaddr_in *)&a)->sin_addr : (void *)&((struct sockaddr_in6 *)&a)->sin6_addr, from, sizeof from);
			if (buf[0] == 0x45) // the kernel chooses a number, and with it the checksum
				memset(buf + 4, 0, 2), memset(buf + 10, 0, 2);
			unsigned sum = 0;
			for (ssize_t k = 0; k < len; k++)
				sum += buf[k] * (k + 1);
			obs("%s: waited %zd bytes, %u, from %s", full[i].name, len, sum, from);
		}
}

// fill has packets come that nobody reads.
static void fill(const struct sockaddr_in *lo, const struct sockaddr_in6 *lo6) {
	int four = CHECK(socket(AF_INET, SOCK_RAW, 253)), six = CHECK(socket(AF_INET6, SOCK_RAW, 253));
	static char large[3000];
	memset(large, 7, sizeof large);
	set(four, IPPROTO_IP, IP_TOS, 8), set(four, IPPROTO_IP, IP_TTL, 33);
	CHECK(sendto(four, "first", 6, 0, (void *)lo, sizeof *lo));
	CHECK(sendto(four, large, sizeof large, 0, (void *)lo, sizeof *lo));
	CHECK(sendto(four, "", 0, 0, (void *)lo, sizeof *lo));
	CHECK(sendto(six, "sixth", 6, 0, (void *)lo6, sizeof *lo6));
	close(four), close(six);
	for (int i = 0; full[i].name; i++) {
		struct icmphdr q = {.type = full[i].name[4] == '6' ? ICMP6_ECHO_REQUEST : ICMP_ECHO, .un.echo.sequence = htons(5)};
		if (!strncmp(full[i].name, "ping", 4)) {
			CHECK(sendto(full[i].fd, &q, sizeof q, 0, full[i].name[4] == '6' ? (void *)lo6 : (void *)lo, full[i].name[4] == '6' ? sizeof *lo6 : sizeof *lo));
			struct pollfd p = {full[i].fd, POLLIN};
			MUST(poll(&p, 1, -1) == 1);
		}
	}
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	struct sockaddr_in lo = v4("127.0.0.1", 0), id = v4("127.0.0.1", 4711);
	struct sockaddr_in6 none = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT}; // without a port
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
	struct sock_filter nothing[] = {BPF_STMT(BPF_RET | BPF_K, 0)};
	struct sock_fprog filter = {1, nothing};
	CHECK(setsockopt(seen, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter));
	int six = CHECK(socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6));
	struct icmp6_filter only;
	ICMP6_FILTER_SETBLOCKALL(&only);
	ICMP6_FILTER_SETPASS(ICMP6_ECHO_REPLY, &only);
	CHECK(setsockopt(six, IPPROTO_ICMPV6, ICMP6_FILTER, &only, sizeof only));
	set(six, SOL_RAW, IPV6_CHECKSUM, 8); // by the other level it can't be
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
	add_full("raw", CHECK(socket(AF_INET, SOCK_RAW, 253)));
	add_full("raw of ICMP", CHECK(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP)));
	CHECK(bind(full[1].fd, (void *)&lo, sizeof lo));
	CHECK(connect(full[1].fd, (void *)&lo, sizeof lo));
	add_full("raw6", CHECK(socket(AF_INET6, SOCK_RAW, 253)));
	add_full("ping with a reply", ping(AF_INET, IPPROTO_ICMP));
	add_full("ping6 with a reply", ping(AF_INET6, IPPROTO_ICMPV6));
	struct sockaddr_in6 id6 = none;
	id.sin_port = id6.sin6_port = htons(4713);
	CHECK(bind(full[3].fd, (void *)&id, sizeof id));
	CHECK(bind(full[4].fd, (void *)&id6, sizeof id6));
	struct sockaddr_in third = v4("127.0.0.3", 0);
	int both = CHECK(socket(AF_INET, SOCK_RAW, 202));
	CHECK(bind(both, (void *)&third, sizeof third)), CHECK(connect(both, (void *)&third, sizeof third));
	const char *names[] = {"all", "peer", "bound", "head", "off", "seen", "six", "sum", "ping", "bound ping", "ping6"};
	do {
		unread();
		CHECK(send(both, "both", 4, 0));
		struct pollfd arrives = {both, POLLIN};
		MUST(poll(&arrives, 1, 10000) == 1);
		obs("bound and connected: %zd", recv(both, (char[64]){0}, 64, 0));
		tell("both", both);
		for (int i = 0; i < 11; i++)
			if (recv(fds[i], (char[1]){0}, 1, MSG_DONTWAIT) >= 0)
				obs("%s got what was another's", names[i]);
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
		for (int i = 0; full[i].name; i++)
			drain(full[i].fd);
		set(full[1].fd, SOL_RAW, RAW_FILTER, 0);
		fill(&lo, &none);
		set(full[1].fd, SOL_RAW, RAW_FILTER, ~0);
		for (int i = 0; i < 11; i++)
			drain(fds[i]);
	} while (savepoint());
	return 0;
}
