// Sockets of less common families with what criu knows of them, for interchange.
#include "ctl.h"
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <sys/socket.h>

static int get(int fd, int level, int opt) {
	int v = -1;
	socklen_t n = sizeof v;
	return getsockopt(fd, level, opt, &v, &n) ? -errno : v;
}

static void set(int fd, int level, int opt, int v) { CHECK(setsockopt(fd, level, opt, &v, sizeof v)); }

static int fds[8], count;

static int dial(int family, int type, int protocol) { return fds[count++] = CHECK(socket(family, type, protocol)); }

// common are options that all of them have.
static void common(int fd) {
	set(fd, SOL_SOCKET, SO_RCVBUF, 40000), set(fd, SOL_SOCKET, SO_SNDBUF, 50000), set(fd, SOL_SOCKET, SO_PRIORITY, 3), set(fd, SOL_SOCKET, SO_MARK, 7);
	set(fd, SOL_SOCKET, SO_RCVLOWAT, 5), set(fd, SOL_SOCKET, SO_BROADCAST, 1);
	struct timeval two = {2, 0};
	CHECK(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &two, sizeof two));
}

static void packet(void) {
	int lo = if_nametoindex("lo"), fd = dial(AF_PACKET, SOCK_RAW, 0);
	struct sockaddr_ll at = {.sll_family = AF_PACKET, .sll_protocol = htons(0x88b5), .sll_ifindex = lo, .sll_halen = 6};
	set(fd, SOL_PACKET, PACKET_AUXDATA, 1), set(fd, SOL_PACKET, PACKET_ORIGDEV, 1), set(fd, SOL_PACKET, PACKET_VERSION, TPACKET_V2);
	set(fd, SOL_PACKET, PACKET_RESERVE, 32), set(fd, SOL_PACKET, PACKET_LOSS, 1), set(fd, SOL_PACKET, PACKET_TIMESTAMP, 1 << 6);
	struct packet_mreq m = {lo, PACKET_MR_MULTICAST, 6, {1, 0, 0x5e, 1, 2, 3}};
	CHECK(setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &m, sizeof m));
	CHECK(bind(fd, (void *)&at, sizeof at));
	common(fd);
	fd = dial(AF_PACKET, SOCK_DGRAM, htons(0x88b6));
	at.sll_protocol = htons(0x88b6);
	CHECK(bind(fd, (void *)&at, sizeof at));
	set(fd, SOL_PACKET, PACKET_FANOUT, 0x1235 | PACKET_FANOUT_HASH << 16);
	fd = dial(AF_PACKET, SOCK_RAW, 0);
	struct tpacket_req ring = {8192, 3, 2048, 12};
	CHECK(setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &ring, sizeof ring));
	CHECK(setsockopt(fd, SOL_PACKET, PACKET_TX_RING, &ring, sizeof ring));
}

static void netlink(void) {
	struct sockaddr_nl a = {.nl_family = AF_NETLINK, .nl_pid = 0x70000031, .nl_groups = 5}, to = {.nl_family = AF_NETLINK, .nl_pid = 0x70000032};
	int fd = dial(AF_NETLINK, SOCK_RAW, NETLINK_USERSOCK);
	CHECK(bind(fd, (void *)&a, sizeof a));
	common(fd);
	fd = dial(AF_NETLINK, SOCK_RAW, NETLINK_USERSOCK);
	CHECK(bind(fd, (void *)&to, sizeof to));
	to.nl_pid = a.nl_pid;
	CHECK(connect(fd, (void *)&to, sizeof to));
	dial(AF_NETLINK, SOCK_RAW, NETLINK_GENERIC);
}

static void raw(void) {
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	int fd = dial(AF_INET, SOCK_RAW, 253);
	CHECK(bind(fd, (void *)&a, sizeof a));
	set(fd, IPPROTO_IP, IP_HDRINCL, 1), set(fd, IPPROTO_IP, IP_NODEFRAG, 1), set(fd, IPPROTO_IP, IP_TTL, 9), set(fd, IPPROTO_IP, IP_TOS, 0x10);
	common(fd);
	fd = dial(AF_INET, SOCK_RAW, IPPROTO_ICMP);
	uint32_t f = ~(1U << ICMP_ECHOREPLY); // struct icmp_filter
	CHECK(setsockopt(fd, 255, 1 /* ICMP_FILTER */, &f, sizeof f));
	fd = dial(AF_INET6, SOCK_RAW, 253);
	struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	CHECK(bind(fd, (void *)&six, sizeof six));
}

// tell tells what a socket has of the options of a level.
static void tell(int i, int level, int from, int to) {
	for (int opt = from; opt <= to; opt++) {
		int v = get(fds[i], level, opt);
		if (v >= 0)
			obs("%d: option %d of level %d: %d", i, opt, level, v);
	}
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	int level = SOL_PACKET, from = PACKET_COPY_THRESH, to = PACKET_TIMESTAMP;
	if (!strcmp(argv[1], "packet"))
		packet();
	else if (!strcmp(argv[1], "netlink"))
		netlink(), level = SOL_NETLINK, from = NETLINK_PKTINFO, to = NETLINK_NO_ENOBUFS;
	else
		raw(), level = IPPROTO_IP, from = IP_TOS, to = IP_HDRINCL;
	do
		for (int i = 0; i < count; i++) {
			static const int common[] = {SO_TYPE, SO_PROTOCOL, SO_RCVBUF, SO_SNDBUF, SO_PRIORITY, SO_MARK, SO_RCVLOWAT, SO_BROADCAST};
			for (unsigned n = 0; n < sizeof common / sizeof *common; n++)
				tell(i, SOL_SOCKET, common[n], common[n]);
			tell(i, level, from, to);
			tell(i, SOL_PACKET, PACKET_FANOUT, PACKET_FANOUT), tell(i, 255, 1, 1), tell(i, IPPROTO_IP, 22, 22);
			struct sockaddr_storage a = {0};
			socklen_t n = sizeof a;
			CHECK(getsockname(fds[i], (void *)&a, &n));
			for (unsigned b = 0; b < n; b += 4)
				if (a.ss_family != AF_NETLINK || b > 4 || ((struct sockaddr_nl *)&a)->nl_pid >> 28 == 7) // else the kernel has chosen it
					obs("%d: address %u: %08x", i, b, ntohl(*(uint32_t *)((char *)&a + b)));
		}
	while (savepoint());
	return 0;
}
