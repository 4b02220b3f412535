// States of sockets other than TCP, UDP and unix that can't be saved: one of them, by
// name. What a dump did must not be seen: what waits still waits afterwards.
#include "ctl.h"
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <linux/net_tstamp.h>
#include <linux/if_xdp.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <linux/if_tun.h>
#include <sys/socket.h>

static int fd, waits;

static int dial(int family, int type, int protocol) {
	fd = CHECK(socket(family, type, protocol));
	return fd;
}

static void kernel_message(void) {
	struct {
		struct nlmsghdr h;
		struct ifinfomsg i;
	} q = {{sizeof q, RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, 7, 0}, {AF_UNSPEC}};
	CHECK(send(dial(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE), &q, sizeof q, 0));
	waits = 1;
}

static void group_message(void) {
	struct sockaddr_nl a = {.nl_family = AF_NETLINK, .nl_pid = 0x70000021, .nl_groups = 1};
	CHECK(bind(dial(AF_NETLINK, SOCK_RAW, NETLINK_USERSOCK), (void *)&a, sizeof a));
	CHECK(sendto(fd, "hello", 5, 0, (void *)&a, sizeof a));
	waits = 1;
}

static void netlink_error(void) {
	struct sockaddr_nl a = {.nl_family = AF_NETLINK, .nl_pid = 0x70000022, .nl_groups = 2}, b = {.nl_family = AF_NETLINK, .nl_groups = 2};
	CHECK(bind(dial(AF_NETLINK, SOCK_RAW, NETLINK_USERSOCK), (void *)&a, sizeof a));
	CHECK(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &(int){0}, sizeof(int)));
	int other = CHECK(socket(AF_NETLINK, SOCK_RAW, NETLINK_USERSOCK));
	struct pollfd p = {fd, 0};
	while (!(p.revents & POLLERR)) { // until nothing more fits: ENOBUFS
		static char large[1000];
		sendto(other, large, sizeof large, 0, (void *)&b, sizeof b);
		CHECK(poll(&p, 1, 0));
	}
	close(other);
}

static void come(int type, int protocol, const void *data, int n) {
	struct sockaddr_in lo = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	CHECK(sendto(dial(AF_INET, type, protocol), data, n, 0, (void *)&lo, sizeof lo));
	struct pollfd p = {fd, POLLIN};
	MUST(poll(&p, 1, -1) == 1);
	waits = 1;
}
static void raw_udp(void) { come(SOCK_RAW, IPPROTO_UDP, "\0\1\0\1\0\10\0\0", 8); }
static void raw_tcp(void) { come(SOCK_RAW, IPPROTO_TCP, "\0\1\0\1\0\0\0\0\0\0\0\0\x50\4\0\0\0\0\0\0", 20); }

// spread has a program spread the load over this socket and one of a process that
// is nobody's child.
static void spread(void) {
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(21201)}, told = at;
	struct sock_filter first = BPF_STMT(BPF_RET | BPF_K, 0);
	struct sock_fprog prog = {1, &first};
	pid_t own = getpid(), child;
	int news = CHECK(socket(AF_INET, SOCK_DGRAM, 0));
	told.sin_port++;
	CHECK(bind(news, (void *)&told, sizeof told));
	if ((child = CHECK(fork())) == 0 && CHECK(fork()))
		_exit(0);
	CHECK(setsockopt(dial(AF_INET, SOCK_DGRAM, 0), SOL_SOCKET, SO_REUSEPORT, &(int){1}, sizeof(int)));
	CHECK(bind(fd, (void *)&at, sizeof at));
	if (child == 0) {
		CHECK(sendto(news, "", 0, 0, (void *)&told, sizeof told));
		close(news);
		while (!kill(own, 0))
			usleep(1000);
		_exit(0);
	}
	CHECK(setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &prog, sizeof prog));
	CHECK(waitpid(child, NULL, 0));
	CHECK(recv(news, &child, sizeof child, 0));
	close(news);
}

static void packet_queue(void) {
	int tap = CHECK(open("/dev/net/tun", O_RDWR));
	struct ifreq r = {.ifr_flags = IFF_TAP | IFF_NO_PI, .ifr_name = "glissends%d"};
	CHECK(ioctl(tap, TUNSETIFF, &r));
	struct sockaddr_ll there = {.sll_family = AF_PACKET, .sll_protocol = htons(0x88b5), .sll_ifindex = if_nametoindex(r.ifr_name), .sll_halen = 6};
	struct sockaddr_ll all = there;
	all.sll_protocol = htons(ETH_P_ALL);
	r.ifr_flags = IFF_UP;
	CHECK(ioctl(dial(AF_PACKET, SOCK_DGRAM, 0), SIOCSIFFLAGS, &r));
	CHECK(bind(fd, (void *)&all, sizeof all));
	CHECK(sendto(CHECK(socket(AF_PACKET, SOCK_DGRAM, 0)), "hello", 5, 0, (void *)&there, sizeof there)); // it is heard when it is sent
	struct pollfd p = {fd, POLLIN};
	MUST(poll(&p, 1, -1) == 1);
	waits = 1;
}

static char *ring_of(int version, int sort) {
	struct tpacket_req3 ring = {8192, 2, 2048, 8, 1, 0, 0};
	dial(AF_PACKET, SOCK_RAW, 0);
	CHECK(setsockopt(fd, SOL_PACKET, PACKET_VERSION, &version, sizeof version));
	CHECK(setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &ring, version == TPACKET_V3 ? sizeof ring : sizeof(struct tpacket_req)));
	char *m = mmap(NULL, 2 * 8192, PROT_READ | PROT_WRITE, sort, fd, 0);
	MUST(m != MAP_FAILED);
	return m;
}

// packet_short has sent a packet from a ring for short ones.
static void packet_short(void) {
	struct tpacket_req ring = {4096, 1, 64, 64};
	struct sockaddr_ll here = {.sll_family = AF_PACKET, .sll_protocol = htons(0x88b5), .sll_ifindex = if_nametoindex("lo"), .sll_halen = 6};
	dial(AF_PACKET, SOCK_DGRAM, 0);
	CHECK(setsockopt(fd, SOL_PACKET, PACKET_TX_RING, &ring, sizeof ring));
	struct tpacket_hdr *h = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	MUST(h != MAP_FAILED);
	h->tp_len = 4, h->tp_status = TP_STATUS_SEND_REQUEST;
	CHECK(sendto(fd, NULL, 0, 0, (void *)&here, sizeof here));
}
// raw_error has an error in its queue: a packet was too long.
static void raw_error(void) {
	static char large[65530];
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	CHECK(connect(dial(AF_INET, SOCK_RAW, 253), (void *)&a, sizeof a));
	CHECK(setsockopt(fd, IPPROTO_IP, IP_RECVERR, &(int){1}, sizeof(int)));
	MUST(send(fd, large, sizeof large, 0) < 0 && errno == EMSGSIZE);
	struct pollfd p = {fd, 0};
	CHECK(poll(&p, 1, 0));
	MUST(p.revents & POLLERR);
}

// failing waits for an error.
static void failing(void) {
	struct pollfd p = {fd, 0};
	while (!(p.revents & POLLERR))
		CHECK(poll(&p, 1, -1));
}

// packet_error has it be told when a packet was sent.
static void packet_error(void) {
	int stamps = SOF_TIMESTAMPING_TX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE;
	struct sockaddr_ll a = {.sll_family = AF_PACKET, .sll_protocol = htons(0x88b5), .sll_ifindex = if_nametoindex("lo"), .sll_halen = 6};
	CHECK(setsockopt(dial(AF_PACKET, SOCK_DGRAM, 0), SOL_SOCKET, SO_TIMESTAMPING, &stamps, sizeof stamps));
	CHECK(sendto(fd, "hello", 5, 0, (void *)&a, sizeof a));
	failing();
}

// packet_gone has it be of a group at an interface that ends.
static void packet_gone(void) {
	struct ifreq r = {.ifr_flags = IFF_TUN | IFF_NO_PI};
	int tun = CHECK(open("/dev/net/tun", O_RDWR | O_CLOEXEC)), any = CHECK(socket(AF_INET, SOCK_DGRAM, 0));
	CHECK(ioctl(tun, TUNSETIFF, &r));
	r.ifr_flags = IFF_UP;
	CHECK(ioctl(any, SIOCSIFFLAGS, &r));
	struct sockaddr_ll a = {.sll_family = AF_PACKET, .sll_protocol = htons(0x88b5), .sll_ifindex = if_nametoindex(r.ifr_name), .sll_halen = 6};
	CHECK(bind(dial(AF_PACKET, SOCK_RAW, 0), (void *)&a, sizeof a));
	CHECK(setsockopt(fd, SOL_PACKET, PACKET_FANOUT, &(int){0x4712 | PACKET_FANOUT_HASH << 16}, sizeof(int)));
	close(tun), close(any);
	failing();
	int e = 0;
	socklen_t n = sizeof e;
	CHECK(getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &n));
	MUST(e == ENETDOWN);
}
static void packet_own(void) { *ring_of(TPACKET_V1, MAP_PRIVATE) = 1; }
static void packet_part(void) { CHECK(munmap(ring_of(TPACKET_V1, MAP_SHARED), 8192)); }
static void packet_closed(void) {
	ring_of(TPACKET_V1, MAP_SHARED);
	CHECK(close(fd));
}

static void packet_fanout(void) {
	struct sockaddr_ll here = {.sll_family = AF_PACKET, .sll_protocol = htons(0x88b5), .sll_ifindex = if_nametoindex("lo")};
	CHECK(bind(dial(AF_PACKET, SOCK_RAW, htons(0x88b5)), (void *)&here, sizeof here));
	CHECK(setsockopt(fd, SOL_PACKET, PACKET_FANOUT, &(int){0x4711 | PACKET_FANOUT_CBPF << 16}, sizeof(int)));
	struct sock_filter first[] = {BPF_STMT(BPF_RET | BPF_K, 0)};
	struct sock_fprog prog = {1, first};
	CHECK(setsockopt(fd, SOL_PACKET, PACKET_FANOUT_DATA, &prog, sizeof prog));
}

static void xdp_memory(void) {
	static char memory[4096 * 4] __attribute__((aligned(4096)));
	struct xdp_umem_reg r = {.addr = (uintptr_t)memory, .len = sizeof memory, .chunk_size = 4096};
	dial(AF_XDP, SOCK_RAW, 0);
	MUST(!setsockopt(fd, SOL_XDP, XDP_UMEM_REG, &r, sizeof r) || (errno == ENOBUFS && !setsockopt(fd, SOL_XDP, XDP_RX_RING, &(int){64}, sizeof(int))));
}

static void router(void) { CHECK(setsockopt(dial(AF_INET, SOCK_RAW, IPPROTO_IGMP), IPPROTO_IP, 200 /* MRT_INIT */, &(int){1}, sizeof(int))); }
static void alert(void) { CHECK(setsockopt(dial(AF_INET6, SOCK_RAW, IPPROTO_RAW), IPPROTO_IPV6, IPV6_ROUTER_ALERT, &(int){5}, sizeof(int))); }

static void tap_filter(void) {
	fd = CHECK(open("/dev/net/tun", O_RDWR));
	struct ifreq r = {.ifr_flags = IFF_TAP, .ifr_name = "glisfilter"};
	CHECK(ioctl(fd, TUNSETIFF, &r));
	struct sock_filter all[] = {BPF_STMT(BPF_RET | BPF_K, 0xffff)};
	struct sock_fprog prog = {1, all};
	CHECK(ioctl(fd, TUNATTACHFILTER, &prog));
}

static struct {
	const char *name;
	void (*make)(void);
} states[] = {
    {"kernelmessage", kernel_message}, {"groupmessage", group_message}, {"netlinkerror", netlink_error}, {"rawudp", raw_udp}, {"rawtcp", raw_tcp},
    {"spread", spread}, {"packetqueue", packet_queue}, {"packetshort", packet_short}, {"rawerror", raw_error}, {"packeterror", packet_error}, {"packetgone", packet_gone}, {"packetown", packet_own}, {"packetpart", packet_part}, {"packetclosed", packet_closed}, {"packetfanout", packet_fanout}, {"xdpmemory", xdp_memory}, {"router", router},
    {"alert", alert}, {"tapfilter", tap_filter},
};

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	int made = 0;
	for (unsigned i = 0; i < sizeof states / sizeof *states; i++)
		if (!strcmp(argv[1], states[i].name))
			states[i].make(), made = 1;
	MUST(made);
	do
		obs("still %d", fcntl(fd, F_GETFL) >= 0);
	while (savepoint());
	struct pollfd p = {fd, POLLIN};
	CHECK(poll(&p, 1, 0));
	MUST(!waits || p.revents == POLLIN);
	return 0;
}
