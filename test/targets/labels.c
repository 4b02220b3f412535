// Flow labels of IPv6 (IPV6_FLOWLABEL_MGR) that sockets have leased: for all, for one socket,
// with a header, for a user, and for processes, one of which has ended; of UDP, TCP and raw
// sockets, and one that two processes have.
#include "ctl.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

enum { FLOWLABEL_MGR = 32, FLOWINFO_SEND, EXCL = 1, PROCESS, USER, ANY = 255, CREATE = 1, USER_ID = 1234 };

struct request { // struct in6_flowlabel_req, and what follows it
	struct in6_addr dst;
	uint32_t label;
	uint8_t action, share;
	uint16_t flags, expires, linger;
	uint32_t pad;
	size_t len; // struct cmsghdr
	int level, type;
	uint8_t header[8];
};

// base is of the labels of this run: those of one before are not free for some seconds.
static int base;

static int lease(int fd, int label, int share, int expires, int headers) {
	struct request r = {.dst = IN6ADDR_LOOPBACK_INIT, .label = htonl(base + label), .share = share, .flags = CREATE, .expires = expires, .linger = expires ? 7 : 0,
		.len = 24, .level = IPPROTO_IPV6, .type = IPV6_HOPOPTS, .header = {17, 0, 1, 4}};
	return setsockopt(fd, IPPROTO_IPV6, FLOWLABEL_MGR, &r, headers ? sizeof r : 32);
}

static int udp(void) { return CHECK(socket(AF_INET6, SOCK_DGRAM, 0)); }

// to connects with a label.
static void to(int fd, int label, int port) {
	struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT, .sin6_port = port, .sin6_flowinfo = htonl(base + label)};
	CHECK(setsockopt(fd, IPPROTO_IPV6, FLOWINFO_SEND, &(int){1}, sizeof(int)));
	CHECK(connect(fd, (void *)&a, sizeof a));
}

static const char *error(int r) { return r < 0 ? strerror(errno) : "yes"; }

// may tells whether this process may lease a label, too.
static void may(const char *who, int label, int share) {
	int fd = udp();
	obs("%s, %x: %s", who, label, error(lease(fd, label, share, 0, 0)));
	close(fd);
}

static pid_t known[3]; // this process, its child, one that has ended

// list tells what the kernel has, but when it ends.
static void list(void) {
	static char line[64][128];
	char text[200];
	int n = 0;
	FILE *f = fopen("/proc/self/net/ip6_flowlabel", "r");
	MUST(f != NULL);
	while (fgets(text, sizeof text, f)) {
		unsigned label, share, users, opt;
		long owner, linger, expires;
		char dst[40];
		if (sscanf(text, "%x %u %ld %u %ld %ld %39s %u", &label, &share, &owner, &users, &linger, &expires, dst, &opt) != 8 || label >> 8 != base >> 8)
			continue;
		for (int i = 0; share == PROCESS && i < 3; i++)
			if (known[i] == owner)
				owner = i + 1;
		MUST(expires <= 40 && n < 64);
		snprintf(line[n++], 128, "%x share %u owner %ld users %u linger %ld to %s headers %u%s", label & 0xff, share, owner, users, linger, dst, opt, expires > 10 ? ", long" : "");
	}
	fclose(f);
	qsort(line, n, 128, (void *)strcmp);
	for (int i = 0; i < n; i++)
		obs("%s", line[i]);
}

// unused tells whether the kernel has no label of this base.
static int unused(int b) {
	char text[200];
	unsigned label;
	int found = 0;
	FILE *f = fopen("/proc/self/net/ip6_flowlabel", "r");
	MUST(f != NULL);
	while (fgets(text, sizeof text, f))
		found |= sscanf(text, "%x", &label) == 1 && label >> 8 == b >> 8;
	fclose(f);
	return !found;
}

// goes tells whether packets with a label may go.
static void goes(int fd, int label) {
	struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT, .sin6_port = htons(9), .sin6_flowinfo = htonl(base + label)};
	obs("%x: %s", label, error(sendto(fd, "x", 1, 0, (void *)&a, sizeof a)));
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	for (base = 0x100; !unused(base);)
		base += 0x100;
	int all = udp(), shared = udp(), users = udp(), raw = CHECK(socket(AF_INET6, SOCK_RAW, 253)), in = udp();
	struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	socklen_t len = sizeof a;
	CHECK(setsockopt(all, IPPROTO_IPV6, FLOWINFO_SEND, &(int){1}, sizeof(int)));
	CHECK(bind(in, (void *)&a, sizeof a)), CHECK(getsockname(in, (void *)&a, &len));
	CHECK(lease(all, 0x01, ANY, 40, 0)), CHECK(lease(all, 0x01, ANY, 40, 0)), CHECK(lease(raw, 0x01, ANY, 40, 0));
	CHECK(lease(all, 0x02, EXCL, 0, 1));
	CHECK(lease(shared, 0x03, PROCESS, 0, 0)), CHECK(lease(raw, 0x03, PROCESS, 0, 0));
	CHECK(syscall(SYS_setresuid, -1, USER_ID, -1)), CHECK(lease(users, 0x04, USER, 0, 0)), CHECK(syscall(SYS_setresuid, -1, 0, -1));
	CHECK(lease(users, 0x05, USER, 40, 1)), to(users, 0x05, a.sin6_port);
	if (!(known[2] = CHECK(fork())))
		_exit(lease(shared, 0x06, PROCESS, 0, 0) < 0);
	int status;
	CHECK(waitpid(known[2], &status, 0));
	MUST(status == 0);
	int listener = CHECK(socket(AF_INET6, SOCK_STREAM, 0)), client = CHECK(socket(AF_INET6, SOCK_STREAM, 0));
	a.sin6_port = 0; // that of the UDP socket may be another's of TCP
	CHECK(bind(listener, (void *)&a, sizeof a)), CHECK(listen(listener, 1)), CHECK(getsockname(listener, (void *)&a, &len));
	CHECK(lease(client, 0x03, PROCESS, 0, 0)), CHECK(lease(listener, 0x07, ANY, 0, 0)), to(client, 0x03, a.sin6_port);
	int server = CHECK(accept(listener, NULL, NULL));
	int go[2], listed[2]; // to the parent, and to the child, whose attempts are users while they last
	char c;
	CHECK(pipe(go)), CHECK(pipe(listed));
	known[0] = getpid();
	if (!(known[1] = CHECK(fork()))) {
		ctl_child("child");
		CHECK(lease(shared, 0x08, PROCESS, 0, 0));
		known[1] = getpid();
		CHECK(write(go[1], "x", 1));
		do {
			CHECK(read(listed[0], &c, 1));
			may("child", 0x03, PROCESS), may("child", 0x08, PROCESS);
		} while (savepoint());
		return 0;
	}
	ctl_party("child");
	CHECK(read(go[0], &c, 1));
	do {
		list();
		CHECK(write(listed[1], "x", 1));
		may("parent", 0x01, ANY), may("parent", 0x02, EXCL), may("parent", 0x03, PROCESS), may("parent", 0x04, USER), may("parent", 0x05, USER), may("parent", 0x06, PROCESS), may("parent", 0x08, PROCESS);
		goes(all, 0x01), goes(all, 0x02), goes(all, 0x03);
		CHECK(write(client, "hello", 5));
		char b[8];
		obs("came: %zd", read(server, b, sizeof b));
	} while (savepoint());
	CHECK(waitpid(known[1], &status, 0));
	return 0;
}
