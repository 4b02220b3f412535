// What no option tells of a socket: where multicast goes, by number; what packets
// are sent from; policies; headers that go with every packet; anycast; and, of
// raw sockets, groups, and that they were shut down.
#include "ctl.h"
#include <arpa/inet.h>
#include <linux/xfrm.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

static void set(int fd, int level, int opt, int v) { CHECK(setsockopt(fd, level, opt, &v, sizeof v)); }

static struct sockaddr_in v4(const char *ip, int port) {
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
	MUST(inet_pton(AF_INET, ip, &a.sin_addr) == 1);
	return a;
}

static struct sockaddr_in6 v6(const char *ip, int port) {
	struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	MUST(inet_pton(AF_INET6, ip, &a.sin6_addr) == 1);
	return a;
}

// address gives the loopback interface an address, or takes it away.
static void address(const char *ip, int request) {
	struct {
		struct in6_addr a;
		uint32_t bits;
		int index;
	} r = {v6(ip, 0).sin6_addr, 64, if_nametoindex("lo")};
	int fd = CHECK(socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0));
	if (ioctl(fd, request, &r) && errno != EEXIST && errno != EADDRNOTAVAIL)
		die("address: %s", strerror(errno));
	// It can be used a moment later.
	struct sockaddr_in6 own = v6(ip, 0);
	while (request == SIOCSIFADDR && bind(fd, (void *)&own, sizeof own))
		MUST(errno == EADDRNOTAVAIL);
	close(fd);
}

// block has a socket send nothing, or lets it (IP_XFRM_POLICY).
static void block(int fd, int family, int action) {
	struct xfrm_userpolicy_info p = {.dir = XFRM_POLICY_OUT, .action = action, .priority = 7};
	p.sel.family = family;
	p.lft.soft_byte_limit = p.lft.hard_byte_limit = p.lft.soft_packet_limit = p.lft.hard_packet_limit = XFRM_INF;
	CHECK(setsockopt(fd, family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6, family == AF_INET ? IP_XFRM_POLICY : IPV6_XFRM_POLICY, &p, sizeof p));
}

static void sent(const char *name, int fd, void *to, socklen_t len) {
	errno = 0;
	ssize_t n = sendto(fd, "hello", 5, 0, to, len);
	obs("%s: %zd %d", name, n, errno);
}

// got notes whether something has come, and from where.
static void got(const char *name, int fd) {
	struct sockaddr_in6 from = {0};
	socklen_t len = sizeof from;
	char buf[100], ip[INET6_ADDRSTRLEN] = "";
	ssize_t n = recvfrom(fd, buf, sizeof buf, MSG_DONTWAIT, (void *)&from, &len);
	if (n >= 0 && from.sin6_family == AF_INET6)
		inet_ntop(AF_INET6, &from.sin6_addr, ip, sizeof ip);
	obs("%s: got %zd from %s", name, n, ip);
}

static void bytes(const char *name, int fd, int level, int opt) {
	unsigned char v[64] = {0};
	socklen_t n = sizeof v;
	CHECK(getsockopt(fd, level, opt, v, &n));
	obs("%s: option %d/%d has %d bytes %llx", name, level, opt, n, (unsigned long long)fnv(v, n));
}

// counted notes whether one is told how much more there is (SO_INQ).
static void counted(int from, int to) {
	char buf[10], control[100];
	struct iovec v = {buf, sizeof buf};
	struct msghdr m = {NULL, 0, &v, 1, control, sizeof control, 0};
	CHECK(send(from, "hello and more", 14, 0));
	ssize_t n = CHECK(recvmsg(to, &m, 0));
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	obs("inq: %zd, %d", n, c ? *(int *)CMSG_DATA(c) : -1);
	CHECK(recv(to, buf, sizeof buf, 0));
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	address("fd77::1", SIOCSIFADDR);
	struct sockaddr_in group = v4("239.7.7.7", 7777), loop = v4("127.0.0.1", 7777), raws = v4("239.7.7.8", 0);
	struct sockaddr_in6 loop6 = v6("::1", 7778), any = v6("fd77::5", 7778);
	int in = CHECK(socket(AF_INET, SOCK_DGRAM, 0)), in6 = CHECK(socket(AF_INET6, SOCK_DGRAM, 0));
	set(in, SOL_SOCKET, SO_REUSEADDR, 1), set(in6, SOL_SOCKET, SO_REUSEADDR, 1);
	struct sockaddr_in all = v4("0.0.0.0", 7777);
	struct sockaddr_in6 all6 = v6("::", 7778);
	CHECK(bind(in, (void *)&all, sizeof all)), CHECK(bind(in6, (void *)&all6, sizeof all6));
	CHECK(setsockopt(in, IPPROTO_IP, IP_ADD_MEMBERSHIP, &(struct ip_mreqn){group.sin_addr, {0}, if_nametoindex("lo")}, sizeof(struct ip_mreqn)));
	struct ipv6_mreq cast = {any.sin6_addr, if_nametoindex("lo")};
	CHECK(setsockopt(in6, IPPROTO_IPV6, IPV6_JOIN_ANYCAST, &cast, sizeof cast));

	int multi = CHECK(socket(AF_INET, SOCK_DGRAM, 0)), info = CHECK(socket(AF_INET6, SOCK_DGRAM, 0)), told = CHECK(socket(AF_INET6, SOCK_STREAM, 0));
	CHECK(setsockopt(multi, IPPROTO_IP, IP_MULTICAST_IF, &(struct ip_mreqn){.imr_ifindex = if_nametoindex("lo")}, sizeof(struct ip_mreqn)));
	set(multi, SOL_SOCKET, 70 /* SO_BUSY_POLL_BUDGET */, 16);
	struct in6_pktinfo from = {any.sin6_addr, if_nametoindex("lo")};
	from.ipi6_addr = v6("fd77::1", 0).sin6_addr;
	CHECK(setsockopt(info, IPPROTO_IPV6, IPV6_PKTINFO, &from, sizeof from));
	CHECK(setsockopt(told, IPPROTO_IPV6, IPV6_PKTINFO, &from, sizeof from));
	set(told, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
	int closed = CHECK(socket(AF_INET, SOCK_DGRAM, 0)), closed6 = CHECK(socket(AF_INET6, SOCK_STREAM, 0));
	block(closed, AF_INET, XFRM_POLICY_BLOCK), block(closed6, AF_INET6, XFRM_POLICY_BLOCK);
	int heads = CHECK(socket(AF_INET, SOCK_DGRAM, 0)), heads6 = CHECK(socket(AF_INET6, SOCK_DGRAM, 0));
	unsigned char record[] = {7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0}, hop[] = {0, 0, 1, 4, 0, 0, 0, 0};
	CHECK(setsockopt(heads, IPPROTO_IP, IP_OPTIONS, record, sizeof record));
	CHECK(setsockopt(heads6, IPPROTO_IPV6, IPV6_HOPOPTS, hop, sizeof hop));
	CHECK(setsockopt(heads6, IPPROTO_IPV6, IPV6_DSTOPTS, hop, sizeof hop));

	int raw = CHECK(socket(AF_INET, SOCK_RAW, 253)), out = CHECK(socket(AF_INET, SOCK_RAW, 253)), shut = CHECK(socket(AF_INET, SOCK_RAW, 252));
	set(raw, IPPROTO_IP, IP_MULTICAST_ALL, 0), set(out, IPPROTO_IP, IP_MULTICAST_ALL, 0);
	CHECK(setsockopt(raw, IPPROTO_IP, IP_ADD_MEMBERSHIP, &(struct ip_mreqn){raws.sin_addr, {0}, if_nametoindex("lo")}, sizeof(struct ip_mreqn)));
	CHECK(setsockopt(out, IPPROTO_IP, IP_MULTICAST_IF, &(struct ip_mreqn){.imr_ifindex = if_nametoindex("lo")}, sizeof(struct ip_mreqn)));
	shutdown(shut, SHUT_RDWR);
	int local[2], on = 1;
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, local));
	if (setsockopt(local[0], SOL_SOCKET, 84 /* SO_INQ, Linux 6.17 */, &on, sizeof on))
		MUST(errno == ENOPROTOOPT);
	do {
		sent("multicast", multi, &group, sizeof group), got("multicast", in);
		sent("source", info, &loop6, sizeof loop6), got("source", in6);
		bytes("source", told, IPPROTO_IPV6, IPV6_2292PKTOPTIONS);
		sent("anycast", info, &any, sizeof any), got("anycast", in6);
		sent("closed", closed, &loop, sizeof loop);
		errno = 0;
		obs("closed: %d %d", connect(closed6, (void *)&loop6, sizeof loop6), errno);
		bytes("heads", heads, IPPROTO_IP, IP_OPTIONS), bytes("heads", heads6, IPPROTO_IPV6, IPV6_HOPOPTS), bytes("heads", heads6, IPPROTO_IPV6, IPV6_DSTOPTS);
		sent("heads", heads, &loop, sizeof loop), got("heads", in);
		sent("raw", out, &raws, sizeof raws), got("raw", raw), got("raw", out);
		counted(local[1], local[0]);
		struct pollfd p = {shut, POLLIN | POLLOUT | POLLRDHUP, 0};
		poll(&p, 1, 0);
		obs("shut: %x", p.revents);
	} while (savepoint());
	address("fd77::1", SIOCDIFADDR);
	return 0;
}
