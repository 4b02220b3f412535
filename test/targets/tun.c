// Descriptors of /dev/net/tun: attached to nothing, queues of a tun with traffic, of a
// tap with several, one of them detached, and of an interface that stays.
#include "ctl.h"
#include <arpa/inet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

static int attach(const char *name, int flags, int more) {
	int fd = CHECK(open("/dev/net/tun", O_RDWR | more));
	struct ifreq r = {.ifr_flags = flags};
	strncpy(r.ifr_name, name, IFNAMSIZ - 1);
	CHECK(ioctl(fd, TUNSETIFF, &r));
	return fd;
}

static void tell(const char *what, int fd) {
	struct ifreq r = {0};
	int e = ioctl(fd, TUNGETIFF, &r) ? errno : 0, size = 0, head = 0;
	if (!e) {
		CHECK(ioctl(fd, TUNGETSNDBUF, &size));
		CHECK(ioctl(fd, TUNGETVNETHDRSZ, &head));
	}
	obs("%s: %d %s %hx, sends %d, head %d, number %d, flags %x %d", what, e, r.ifr_name, r.ifr_flags, size, head, e ? 0 : !!if_nametoindex(r.ifr_name), fcntl(fd, F_GETFL), fcntl(fd, F_GETFD));
}

// address gives the tun an address and has it up.
static void address(const char *name) {
	int s = CHECK(socket(AF_INET, SOCK_DGRAM, 0));
	struct ifreq r = {0};
	struct sockaddr_in *a = (void *)&r.ifr_addr;
	strncpy(r.ifr_name, name, IFNAMSIZ - 1);
	a->sin_family = AF_INET;
	inet_pton(AF_INET, "10.213.9.1", &a->sin_addr);
	CHECK(ioctl(s, SIOCSIFADDR, &r));
	inet_pton(AF_INET, "255.255.255.0", &a->sin_addr);
	CHECK(ioctl(s, SIOCSIFNETMASK, &r));
	r.ifr_flags = IFF_UP;
	CHECK(ioctl(s, SIOCSIFFLAGS, &r));
	close(s);
}

// traffic sends a datagram into the tun, and its answer out of it.
static void traffic(int tun) {
	int s = CHECK(socket(AF_INET, SOCK_DGRAM, 0));
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(77)};
	inet_pton(AF_INET, "10.213.9.2", &to.sin_addr);
	CHECK(connect(s, (void *)&to, sizeof to));
	CHECK(send(s, "ping", 4, 0));
	unsigned char p[2048];
	ssize_t n;
	do { // IPv6 says hello, too
		struct pollfd ready = {tun, POLLIN};
		MUST(poll(&ready, 1, -1) == 1);
		n = CHECK(read(tun, p, sizeof p));
	} while (p[0] != 0x45 || p[9] != IPPROTO_UDP);
	unsigned char swap[4];
	memcpy(swap, p + 12, 4), memcpy(p + 12, p + 16, 4), memcpy(p + 16, swap, 4); // addresses
	memcpy(swap, p + 20, 2), memcpy(p + 20, p + 22, 2), memcpy(p + 22, swap, 2); // ports
	memcpy(p + 28, "pong", 4), p[26] = p[27] = 0;                               // no checksum
	CHECK(write(tun, p, n));
	char buf[8] = "";
	struct pollfd ready = {s, POLLIN};
	MUST(poll(&ready, 1, 10000) == 1);
	obs("%zd bytes in, %zd out: %s", n, CHECK(recv(s, buf, 7, 0)), buf);
	close(s);
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	int none = CHECK(open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC));
	int tun = attach("glistun", IFF_TUN | IFF_NO_PI, 0);
	address("glistun");
	int taps[3];
	for (int i = 0; i < 3; i++)
		taps[i] = attach("glistap", IFF_TAP | IFF_MULTI_QUEUE | IFF_VNET_HDR, i ? 0 : O_NONBLOCK);
	CHECK(ioctl(taps[1], TUNSETQUEUE, &(struct ifreq){.ifr_flags = IFF_DETACH_QUEUE}));
	CHECK(ioctl(taps[0], TUNSETSNDBUF, &(int){123456}));
	CHECK(ioctl(taps[0], TUNSETVNETHDRSZ, &(int){12}));
	int stays = attach("glisstays", IFF_TAP, 0);
	CHECK(ioctl(stays, TUNSETPERSIST, 1));
	int before = if_nametoindex("glistun");
	do {
		tell("none", none), tell("tun", tun), tell("first", taps[0]), tell("second", taps[1]), tell("third", taps[2]), tell("stays", stays);
		obs("the same interface: %d", before == (int)if_nametoindex("glistun"));
		traffic(tun);
	} while (savepoint());
	CHECK(ioctl(stays, TUNSETPERSIST, 0));
	close(tun), close(stays);
	for (int i = 0; i < 3; i++)
		close(taps[i]);
	MUST(!if_nametoindex("glistun") && !if_nametoindex("glistap") && !if_nametoindex("glisstays"));
	return 0;
}
