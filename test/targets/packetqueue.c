// Packets that wait at packet sockets: with where they came from, what they are, and as
// long as they were; nobody else gets them again.
#include "ctl.h"
#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

enum { mine = 0x88b5, most = 8 };

static struct {
	const char *name;
	int fd;
} boxes[most];
static int count, tap, udp, sent;
static unsigned char mac[6];

static int box(const char *name, int type, int protocol, const char *device) {
	struct sockaddr_ll a = {.sll_family = AF_PACKET, .sll_protocol = htons(protocol), .sll_ifindex = device ? if_nametoindex(device) : 0, .sll_halen = 6};
	int fd = CHECK(socket(AF_PACKET, type, 0));
	CHECK(bind(fd, (void *)&a, sizeof a));
	boxes[count].name = name, boxes[count++].fd = fd;
	return fd;
}

// everything is a box for all that comes by an interface, or is sent by it, of our protocols.
static void everything(const char *name, const char *device) {
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, SKF_AD_OFF + SKF_AD_PROTOCOL),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, mine, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, 0xffff),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};
	struct sock_fprog prog = {4, f};
	int one = 1, fd = box(name, SOCK_RAW, 0, device);
	CHECK(setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof prog));
	CHECK(setsockopt(fd, SOL_PACKET, PACKET_AUXDATA, &one, sizeof one));
	struct sockaddr_ll a = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = if_nametoindex(device)};
	CHECK(bind(fd, (void *)&a, sizeof a));
}

// comes has a frame come by the tap.
static void comes(const char *to, int protocol, const char *text) {
	char b[1400] = "";
	memcpy(b, to, 6);
	memcpy(b + 6, "\2\3\4\5\6\7", 6);
	b[12] = protocol >> 8, b[13] = protocol;
	snprintf(b + 14, 100, "%s #%d", text, sent++);
	CHECK(write(tap, b, 14 + 40 + sent));
}

static void fill(void) {
	struct sockaddr_in at;
	socklen_t n = sizeof at;
	CHECK(getsockname(udp, (void *)&at, &n));
	CHECK(sendto(udp, "datagram", 8, 0, (void *)&at, sizeof at));
	comes((char *)mac, mine, "to us");
	comes("\xff\xff\xff\xff\xff\xff", mine, "to all");
	comes("\1\0\x5e\1\2\3", mine, "to some");
	comes("\2\1\1\1\1\1", mine, "to another one");
	comes((char *)mac, mine + 1, "of another protocol");
	comes((char *)mac, ETH_P_8021Q, "\x20\x07\x88\xb8of a VLAN");
	struct sockaddr_ll lo = {.sll_family = AF_PACKET, .sll_protocol = htons(mine), .sll_ifindex = if_nametoindex("lo"), .sll_halen = 6};
	static int out;
	if (!out)
		out = CHECK(socket(AF_PACKET, SOCK_DGRAM, 0));
	CHECK(sendto(out, "over lo", 8, 0, (void *)&lo, sizeof lo));
	for (int i = 0; i < count; i++) {
		struct pollfd p = {boxes[i].fd, POLLIN};
		CHECK(poll(&p, 1, -1));
	}
}

static void tell(const char *name, int fd) {
	for (;;) {
		char b[2000] = "", c[200], device[IF_NAMESIZE] = "";
		struct sockaddr_ll a = {0};
		struct iovec v = {b, sizeof b};
		struct msghdr h = {&a, sizeof a, &v, 1, c, sizeof c, 0};
		ssize_t n = recvmsg(fd, &h, MSG_DONTWAIT | MSG_TRUNC);
		if (n < 0)
			return;
		for (char *p = b; p < b + sizeof b; p++) // a port that the kernel has chosen, and identifications
			if (*p < ' ' || *p > '~')
				*p = '.';
		int ip = ntohs(a.sll_protocol) == ETH_P_IP;
		obs("%s: %zd bytes, %s, from %s, protocol %x, type %d, header %d, address %d %02x%02x: %.70s", name, n, h.msg_flags & MSG_TRUNC ? "cut" : "whole", if_indextoname(a.sll_ifindex, device), ntohs(a.sll_protocol),
		    a.sll_pkttype, a.sll_hatype, a.sll_halen, a.sll_addr[0], a.sll_addr[5], ip ? "" : b);
		for (struct cmsghdr *m = CMSG_FIRSTHDR(&h); m; m = CMSG_NXTHDR(&h, m))
			if (m->cmsg_level == SOL_PACKET && m->cmsg_type == PACKET_AUXDATA) {
				struct tpacket_auxdata *x = (void *)CMSG_DATA(m);
				obs("%s: status %x, %u of %u bytes, link at %d, network at %d", name, x->tp_status, x->tp_snaplen, x->tp_len, x->tp_mac, x->tp_net), obs("%s: tag %x of %x", name, x->tp_vlan_tci, x->tp_vlan_tpid);
			}
	}
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	struct ifreq r = {.ifr_flags = IFF_TAP | IFF_NO_PI, .ifr_name = "glisqueue%d"};
	tap = CHECK(open("/dev/net/tun", O_RDWR));
	CHECK(ioctl(tap, TUNSETIFF, &r));
	udp = CHECK(socket(AF_INET, SOCK_DGRAM, 0));
	struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	CHECK(bind(udp, (void *)&here, sizeof here));
	struct ifreq up = r;
	CHECK(ioctl(udp, SIOCGIFHWADDR, &up));
	memcpy(up.ifr_hwaddr.sa_data, "\2\1\1\1\1\2", 6); // the same in every run
	CHECK(ioctl(udp, SIOCSIFHWADDR, &up));
	memcpy(mac, up.ifr_hwaddr.sa_data, 6);
	up.ifr_flags = IFF_UP;
	CHECK(ioctl(udp, SIOCSIFFLAGS, &up));
	box("raw", SOCK_RAW, mine, r.ifr_name);
	int one = 1, cooked = box("cooked", SOCK_DGRAM, mine, NULL);
	CHECK(setsockopt(cooked, SOL_PACKET, PACKET_AUXDATA, &one, sizeof one));
	int cut = box("cut", SOCK_RAW, mine + 1, r.ifr_name);
	struct sock_filter f[] = {BPF_STMT(BPF_RET | BPF_K, 25)};
	struct sock_fprog prog = {1, f};
	CHECK(setsockopt(cut, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof prog));
	CHECK(setsockopt(cut, SOL_PACKET, PACKET_AUXDATA, &one, sizeof one));
	box("ip", SOCK_DGRAM, ETH_P_IP, "lo");
	everything("all of lo", "lo");
	everything("all of tap", r.ifr_name);
	fill();
	while (savepoint()) {
		for (int i = 0; i < count; i++)
			tell(boxes[i].name, boxes[i].fd);
		char b[16];
		for (ssize_t n; (n = recv(udp, b, sizeof b, MSG_DONTWAIT)) >= 0;)
			obs("udp: %.*s", (int)n, b);
		fill();
	}
	return 0;
}
