// Netlink sockets: numbers, groups, types, peers, options, and that they work.
#include "ctl.h"
#include <errno.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

static struct sockaddr_nl at(uint32_t pid, uint32_t groups) {
	return (struct sockaddr_nl){.nl_family = AF_NETLINK, .nl_pid = pid, .nl_groups = groups};
}

static void on(int fd, int level, int opt, int value) { CHECK(setsockopt(fd, level, opt, &value, sizeof value)); }

// number is a number that does not depend on what else runs: one that the
// kernel has chosen must only stay.
static uint32_t number(int fd, uint32_t now) {
	static uint32_t chosen[64];
	if (!now || now >> 28 == 7)
		return now;
	if (!chosen[fd])
		chosen[fd] = now;
	return now == chosen[fd];
}

static void tell(const char *name, int fd) {
	struct sockaddr_nl own = {0}, peer = {0};
	socklen_t n = sizeof own;
	CHECK(getsockname(fd, (void *)&own, &n));
	n = sizeof peer;
	CHECK(getpeername(fd, (void *)&peer, &n));
	int typ, protocol;
	n = sizeof typ;
	CHECK(getsockopt(fd, SOL_SOCKET, SO_TYPE, &typ, &n));
	CHECK(getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &n));
	obs("%s: type %d protocol %d number %u groups %x peer %u %x flags %x", name, typ, protocol, number(fd, own.nl_pid), own.nl_groups, peer.nl_pid, peer.nl_groups, fcntl(fd, F_GETFL));
	uint32_t groups[64] = {0};
	n = sizeof groups;
	CHECK(getsockopt(fd, SOL_NETLINK, NETLINK_LIST_MEMBERSHIPS, groups, &n));
	for (unsigned i = 0; i < n / 4; i++)
		if (groups[i])
			obs("%s: groups %d: %x", name, 32 * i, groups[i]);
	for (int opt = NETLINK_PKTINFO; opt <= NETLINK_GET_STRICT_CHK; opt++) {
		int v = 0;
		n = sizeof v;
		if (opt != NETLINK_LIST_MEMBERSHIPS && !getsockopt(fd, SOL_NETLINK, opt, &v, &n))
			obs("%s: option %d is %d", name, opt, v);
	}
}

// links asks for all interfaces and counts the answers.
static int links(int fd) {
	struct {
		struct nlmsghdr h;
		struct ifinfomsg i;
	} q = {{sizeof q, RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, 7, 0}, {AF_UNSPEC}};
	CHECK(send(fd, &q, sizeof q, 0));
	static char buf[1 << 16];
	for (int count = 0;;) {
		int n = CHECK(recv(fd, buf, sizeof buf, 0));
		for (struct nlmsghdr *h = (void *)buf; NLMSG_OK(h, n); h = NLMSG_NEXT(h, n)) {
			if (h->nlmsg_type == NLMSG_DONE)
				return count;
			count += h->nlmsg_type == RTM_NEWLINK;
		}
	}
}

// fill sends messages that wait to be read: from another, from one that is closed,
// from the socket itself, and what its filter, set later, would not let in.
static void fill(int inbox, int other, const struct sockaddr_nl *box) {
	static char large[40000];
	memset(large, 'x', sizeof large);
	struct sockaddr_nl gone = at(0x70000004, 0);
	int fd = CHECK(socket(AF_NETLINK, SOCK_RAW, NETLINK_USERSOCK));
	CHECK(bind(fd, (void *)&gone, sizeof gone));
	MUST(!setsockopt(inbox, SOL_SOCKET, SO_DETACH_FILTER, &fd, sizeof fd) || errno == ENOENT);
	CHECK(sendto(other, "other", 6, 0, (void *)box, sizeof *box));
	CHECK(sendto(fd, large, sizeof large, 0, (void *)box, sizeof *box));
	CHECK(sendto(inbox, "self", 5, 0, (void *)box, sizeof *box));
	CHECK(close(fd));
	struct sock_filter none[] = {BPF_STMT(BPF_RET | BPF_K, 0)};
	struct sock_fprog filter = {1, none};
	CHECK(setsockopt(inbox, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter));
}

static void unread(int inbox) {
	static char buf[50000];
	for (;;) {
		char control[256];
		struct sockaddr_nl from = {0};
		struct iovec v = {buf, sizeof buf};
		struct msghdr h = {.msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
		ssize_t n = recvmsg(inbox, &h, MSG_DONTWAIT);
		if (n < 0)
			break;
		unsigned sum = 0;
		for (ssize_t i = 0; i < n; i++)
			sum += (unsigned char)buf[i] * (i + 1);
		struct cmsghdr *c = CMSG_FIRSTHDR(&h);
		struct ucred who = {0};
		if (c && c->cmsg_type == SCM_CREDENTIALS)
			memcpy(&who, CMSG_DATA(c), sizeof who);
		obs("waited: %zd bytes, %u, from %u groups %x, mine %d, user %d", n, sum, from.nl_pid, from.nl_groups, who.pid == getpid(), who.uid);
	}
	obs("empty: %d", errno);
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	int fresh = CHECK(socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_GENERIC));
	int route = CHECK(socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK, NETLINK_ROUTE));
	struct sockaddr_nl any = at(0, RTMGRP_LINK | RTMGRP_IPV6_ROUTE);
	CHECK(bind(route, (void *)&any, sizeof any));
	on(route, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, RTNLGRP_MDB);
	on(route, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, RTNLGRP_NEXTHOP + 1);
	on(fresh, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, 9); // which gives it no number
	int asks = CHECK(socket(AF_NETLINK, SOCK_DGRAM, NETLINK_ROUTE));
	for (int opt = NETLINK_PKTINFO; opt <= NETLINK_GET_STRICT_CHK; opt++)
		if (opt != NETLINK_LIST_MEMBERSHIPS && opt != NETLINK_RX_RING && opt != NETLINK_TX_RING)
			on(asks, SOL_NETLINK, opt, 1);
	on(asks, SOL_NETLINK, NETLINK_GET_STRICT_CHK, 0);
	on(asks, SOL_SOCKET, SO_RCVBUFFORCE, 1 << 20);
	on(asks, SOL_SOCKET, SO_PASSCRED, 1);
	int pair[2];
	struct sockaddr_nl name[2] = {at(0x70000001, 0), at(0x70000002, 0x10)};
	for (int i = 0; i < 2; i++) {
		pair[i] = CHECK(socket(AF_NETLINK, SOCK_RAW, NETLINK_USERSOCK));
		CHECK(bind(pair[i], (void *)&name[i], sizeof name[i]));
	}
	CHECK(connect(pair[0], (void *)&name[1], sizeof name[1]));
	struct sock_filter most[] = {BPF_STMT(BPF_RET | BPF_K, 3)};
	struct sock_fprog filter = {1, most};
	CHECK(setsockopt(pair[1], SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter));
	on(pair[1], SOL_SOCKET, SO_LOCK_FILTER, 1);
	struct sockaddr_nl box = at(0x70000003, 0);
	int inbox = CHECK(socket(AF_NETLINK, SOCK_DGRAM, NETLINK_USERSOCK));
	CHECK(bind(inbox, (void *)&box, sizeof box));
	on(inbox, SOL_SOCKET, SO_PASSCRED, 1);
	on(inbox, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, 7);
	// One that is connected to the kernel gets nothing of others.
	struct sockaddr_nl kernel = at(0, 0), deaf_name = at(0x70000005, 0);
	int deaf = CHECK(socket(AF_NETLINK, SOCK_RAW, NETLINK_USERSOCK));
	CHECK(bind(deaf, (void *)&deaf_name, sizeof deaf_name));
	CHECK(connect(deaf, (void *)&kernel, sizeof kernel));
	do {
		ssize_t heard = sendto(pair[1], "hello", 6, 0, (void *)&deaf_name, sizeof deaf_name);
		obs("to the deaf: %zd %d", heard, errno);
		unread(inbox);
		tell("fresh", fresh), tell("route", route), tell("asks", asks), tell("first", pair[0]), tell("second", pair[1]);
		obs("%d links", links(asks) > 0);
		char buf[16] = "";
		obs("nothing: %zd %d", recv(route, buf, 1, 0), errno);
		CHECK(send(pair[0], "hello", 6, 0));
		struct sockaddr_nl from;
		socklen_t n = sizeof from;
		ssize_t len = CHECK(recvfrom(pair[1], buf, sizeof buf, 0, (void *)&from, &n));
		obs("%zd bytes from %u", len, from.nl_pid);
		obs("filter off: %d", setsockopt(pair[1], SOL_SOCKET, SO_DETACH_FILTER, &len, sizeof len));
		fill(inbox, pair[1], &box);
	} while (savepoint());
	return 0;
}
