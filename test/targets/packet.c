// Packet sockets: protocols, interfaces, memberships, fanout, options, traffic.
#include "ctl.h"
#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sys/mman.h>
#include <sys/socket.h>

static const uint16_t mine = 0x88b5; // for experiments

static struct sockaddr_ll at(int protocol, int index) {
	return (struct sockaddr_ll){.sll_family = AF_PACKET, .sll_protocol = htons(protocol), .sll_ifindex = index, .sll_halen = 6};
}

static void tell(const char *name, int fd) {
	struct sockaddr_ll a = {0};
	socklen_t n = sizeof a;
	CHECK(getsockname(fd, (void *)&a, &n));
	int typ;
	n = sizeof typ;
	CHECK(getsockopt(fd, SOL_SOCKET, SO_TYPE, &typ, &n));
	obs("%s: type %d protocol %x at %d flags %x", name, typ, ntohs(a.sll_protocol), a.sll_ifindex, fcntl(fd, F_GETFL));
	for (int opt = PACKET_COPY_THRESH; opt <= 24; opt++) {
		int v = 0;
		n = sizeof v;
		if (opt != PACKET_HDRLEN && opt != PACKET_ROLLOVER_STATS && opt != PACKET_STATISTICS && !getsockopt(fd, SOL_PACKET, opt, &v, &n))
			obs("%s: option %d is %x", name, opt, v);
	}
}

static void set_sock(int fd, int opt, int v) { CHECK(setsockopt(fd, SOL_SOCKET, opt, &v, sizeof v)); }

static void set(int fd, int opt, int v) { CHECK(setsockopt(fd, SOL_PACKET, opt, &v, sizeof v)); }

// flags is whether the interface lets all through.
static int promiscuous(void) {
	unsigned v = 0;
	FILE *f = fopen("/sys/class/net/lo/flags", "re");
	if (!f)
		return -1;
	MUST(fscanf(f, "%x", &v) == 1);
	fclose(f);
	return !!(v & IFF_PROMISC);
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	int lo = if_nametoindex("lo");
	struct sockaddr_ll here = at(mine, lo);
	int none = CHECK(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0));
	int all = CHECK(socket(AF_PACKET, SOCK_DGRAM | SOCK_NONBLOCK, htons(mine)));
	struct sock_filter nothing[] = {BPF_STMT(BPF_RET | BPF_K, 0)};
	struct sock_fprog filter = {1, nothing};
	CHECK(setsockopt(all, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter));
	int bound = CHECK(socket(AF_PACKET, SOCK_DGRAM, 0));
	set(bound, PACKET_AUXDATA, 1), set(bound, PACKET_ORIGDEV, 1), set(bound, PACKET_IGNORE_OUTGOING, 1), set(bound, PACKET_RESERVE, 64);
	set(bound, PACKET_VERSION, TPACKET_V2), set(bound, PACKET_COPY_THRESH, 100), set(bound, PACKET_LOSS, 1), set(bound, PACKET_QDISC_BYPASS, 1);
	set(bound, PACKET_TX_HAS_OFF, 1);
	CHECK(bind(bound, (void *)&here, sizeof here));
	struct packet_mreq many = {lo, PACKET_MR_MULTICAST, 6, {1, 0, 0x5e, 1, 2, 3}};
	for (int i = 0; i < 2; i++)
		CHECK(setsockopt(bound, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &many, sizeof many));
	struct packet_mreq most = {lo, PACKET_MR_ALLMULTI, 0, {0}};
	CHECK(setsockopt(bound, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &most, sizeof most));
	int fans[2];
	for (int i = 0; i < 2; i++) {
		fans[i] = CHECK(socket(AF_PACKET, SOCK_RAW, htons(mine + 1)));
		set(fans[i], PACKET_VNET_HDR, 1);
		CHECK(bind(fans[i], (void *)&(struct sockaddr_ll){.sll_family = AF_PACKET, .sll_protocol = htons(mine + 1), .sll_ifindex = lo}, sizeof here));
		set(fans[i], PACKET_FANOUT, 0x1234 | PACKET_FANOUT_LB << 16);
	}
	int zero = CHECK(socket(AF_PACKET, SOCK_RAW, htons(mine + 2)));
	CHECK(bind(zero, (void *)&(struct sockaddr_ll){.sll_family = AF_PACKET, .sll_protocol = htons(mine + 2), .sll_ifindex = lo}, sizeof here));
	set(zero, PACKET_FANOUT, 0 | PACKET_FANOUT_HASH << 16); // which getsockopt(2) tells as it tells none
	int rings[2] = {CHECK(socket(AF_PACKET, SOCK_RAW, 0)), CHECK(socket(AF_PACKET, SOCK_RAW, 0))};
	struct tpacket_req3 ring = {8192, 3, 2048, 12, 60, 16, TP_FT_REQ_FILL_RXHASH};
	CHECK(setsockopt(rings[0], SOL_PACKET, PACKET_TX_RING, &ring, sizeof(struct tpacket_req)));
	set(rings[1], PACKET_VERSION, TPACKET_V3);
	CHECK(setsockopt(rings[1], SOL_PACKET, PACKET_RX_RING, &ring, sizeof ring));
	set(fans[0], PACKET_TIMESTAMP, 1 << 6);
	int old = CHECK(socket(AF_PACKET, SOCK_PACKET, htons(mine)));
	struct sockaddr name = {AF_PACKET, "lo"};
	CHECK(bind(old, &name, sizeof name));
	set_sock(old, SO_RCVLOWAT, 5);
	do {
		tell("none", none), tell("all", all), tell("bound", bound), tell("first", fans[0]), tell("second", fans[1]);
		tell("ring", rings[0]), tell("blocks", rings[1]);
		// A socket with a ring changes its version no more, and it can be mapped.
		for (int i = 0; i < 2; i++) {
			int v = TPACKET_V2;
			obs("version: %d %d", setsockopt(rings[i], SOL_PACKET, PACKET_VERSION, &v, sizeof v), errno);
			void *m = CHECK(mmap(NULL, 3 * 8192, PROT_READ, MAP_SHARED, rings[i], 0));
			CHECK(munmap(m, 3 * 8192));
			obs("more: %d", mmap(NULL, 4 * 8192, PROT_READ, MAP_SHARED, rings[i], 0) == MAP_FAILED);
		}
		int hash = 0;
		obs("zero: %d %d", setsockopt(zero, SOL_PACKET, PACKET_FANOUT, &hash, sizeof hash), errno);
		obs("promiscuous %d", promiscuous());
		CHECK(sendto(none, "\0\0\0\0\0\0\0\0\0\0\0\0\x88\xb5hello", 19, 0, (void *)&here, sizeof here));
		char buf[64];
		obs("bound: %zd", recv(bound, buf, sizeof buf, 0));
		memset(&name, 0, sizeof name);
		socklen_t len = sizeof name;
		CHECK(getsockname(old, &name, &len));
		obs("old: %s %zd", name.sa_data, recv(old, buf, sizeof buf, 0));
		while (recv(old, buf, sizeof buf, MSG_DONTWAIT) > 0)
			;
		obs("all: %zd %d", recv(all, buf, sizeof buf, 0), errno);
		// Only one that is in a group twice can leave it twice.
		for (int i = 0; i < 3; i++)
			obs("leave: %d", setsockopt(bound, SOL_PACKET, PACKET_DROP_MEMBERSHIP, &many, sizeof many));
		for (int i = 0; i < 2; i++)
			CHECK(setsockopt(bound, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &many, sizeof many));
	} while (savepoint());
	return 0;
}
