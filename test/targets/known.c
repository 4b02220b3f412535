// Sockets of netlink, packet and raw ones, in states that criu keeps: the
// interchange. Others are in netlink.c, packet.c, raw.c.
#include "ctl.h"
#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <sys/socket.h>

static void set(int fd, int level, int opt, int v) { CHECK(setsockopt(fd, level, opt, &v, sizeof v)); }

static void option(const char *name, int fd, int level, int opt) {
	unsigned char v[32] = {0};
	char text[65] = "";
	socklen_t n = sizeof v;
	CHECK(getsockopt(fd, level, opt, v, &n));
	for (unsigned i = 0; i < n; i++)
		sprintf(text + 2 * i, "%02x", v[i]);
	obs("%s: option %d/%d is %s", name, level, opt, text);
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	int pair[2], drop = BPF_RET | BPF_K;
	struct sockaddr_nl name[2] = {{.nl_family = AF_NETLINK, .nl_pid = 0x70000001}, {.nl_family = AF_NETLINK, .nl_pid = 0x70000002, .nl_groups = 0x10}};
	for (int i = 0; i < 2; i++) {
		pair[i] = CHECK(socket(AF_NETLINK, SOCK_RAW, NETLINK_USERSOCK));
		CHECK(bind(pair[i], (void *)&name[i], sizeof name[i]));
	}
	CHECK(connect(pair[0], (void *)&name[1], sizeof name[1]));
	struct sock_filter three[] = {{drop, 0, 0, 3}};
	struct sock_fprog filter = {1, three};
	CHECK(setsockopt(pair[1], SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter));
	set(pair[1], SOL_SOCKET, SO_PRIORITY, 5);

	int lo = if_nametoindex("lo");
	struct sockaddr_ll here = {.sll_family = AF_PACKET, .sll_protocol = htons(0x88b5), .sll_ifindex = lo, .sll_halen = 6};
	int send = CHECK(socket(AF_PACKET, SOCK_RAW, htons(0x88b6))), got = CHECK(socket(AF_PACKET, SOCK_DGRAM, htons(0x88b5)));
	set(got, SOL_PACKET, PACKET_AUXDATA, 1), set(got, SOL_PACKET, PACKET_ORIGDEV, 1), set(got, SOL_PACKET, PACKET_RESERVE, 64);
	set(got, SOL_PACKET, PACKET_VERSION, TPACKET_V2), set(got, SOL_PACKET, PACKET_LOSS, 1);
	CHECK(bind(got, (void *)&here, sizeof here));
	struct packet_mreq many = {lo, PACKET_MR_MULTICAST, 6, {1, 0, 0x5e, 1, 2, 3}};
	CHECK(setsockopt(got, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &many, sizeof many));

	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int raw = CHECK(socket(AF_INET, SOCK_RAW, 253)), icmp = CHECK(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP)), head = CHECK(socket(AF_INET, SOCK_RAW, IPPROTO_RAW));
	CHECK(bind(raw, (void *)&addr, sizeof addr));
	set(raw, IPPROTO_IP, 22 /* IP_NODEFRAG */, 1), set(icmp, 255 /* SOL_RAW */, 1 /* ICMP_FILTER */, ~1);
	int six = CHECK(socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6));
	struct icmp6_filter only;
	ICMP6_FILTER_SETBLOCKALL(&only);
	CHECK(setsockopt(six, IPPROTO_ICMPV6, ICMP6_FILTER, &only, sizeof only));
	do {
		char buf[64] = "";
		struct sockaddr_nl own = {0}, from = {0};
		socklen_t n = sizeof own;
		CHECK(getsockname(pair[1], (void *)&own, &n));
		CHECK(write(pair[0], "hello", 6));
		n = sizeof from;
		obs("netlink %x groups %x: %zd bytes from %x", own.nl_pid, own.nl_groups, CHECK(recvfrom(pair[1], buf, sizeof buf, 0, (void *)&from, &n)), from.nl_pid);
		option("netlink", pair[1], SOL_SOCKET, SO_PRIORITY);
		CHECK(sendto(send, "\0\0\0\0\0\0\0\0\0\0\0\0\x88\xb5hello", 19, 0, (void *)&here, sizeof here));
		obs("packet: %zd", CHECK(recv(got, buf, sizeof buf, 0)));
		while (recv(got, buf, sizeof buf, MSG_DONTWAIT) > 0)
			;
		for (int opt = PACKET_AUXDATA; opt <= PACKET_RESERVE; opt++)
			if (opt != PACKET_HDRLEN)
				option("packet", got, SOL_PACKET, opt);
		CHECK(sendto(raw, "five5", 5, 0, (void *)&addr, sizeof addr));
		obs("raw: %zd", CHECK(recv(raw, buf, sizeof buf, 0)));
		option("raw", raw, IPPROTO_IP, 22), option("icmp", icmp, 255, 1), option("head", head, IPPROTO_IP, IP_HDRINCL), option("six", six, IPPROTO_ICMPV6, ICMP6_FILTER);
		for (int fds[] = {icmp, six}, i = 0; i < 2; i++)
			while (recv(fds[i], buf, sizeof buf, MSG_DONTWAIT) >= 0)
				;
	} while (savepoint());
	return 0;
}
