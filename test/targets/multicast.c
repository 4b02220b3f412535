// UDP sockets in multicast groups, of IPv4 and IPv6, with all sources, some, and
// all but some. What of a group arrives is noted.
#include "ctl.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <net/if.h>
#include <poll.h>
#include <sys/socket.h>

static void set(int fd, int level, int opt, int v) { CHECK(setsockopt(fd, level, opt, &v, sizeof v)); }

static struct sockaddr_storage at(const char *ip, int port) {
	struct sockaddr_storage s = {0};
	struct sockaddr_in *in = (void *)&s;
	struct sockaddr_in6 *in6 = (void *)&s;
	if (strchr(ip, ':')) {
		in6->sin6_family = AF_INET6, in6->sin6_port = port;
		MUST(inet_pton(AF_INET6, ip, &in6->sin6_addr) == 1);
	} else {
		in->sin_family = AF_INET, in->sin_port = port;
		MUST(inet_pton(AF_INET, ip, &in->sin_addr) == 1);
	}
	return s;
}

static void group(int fd, int level, int opt, const char *ip, const char *source) {
	struct group_source_req r = {if_nametoindex("lo"), at(ip, 0), at(source ? source : ip, 0)};
	if (source)
		CHECK(setsockopt(fd, level, opt, &r, sizeof r));
	else
		CHECK(setsockopt(fd, level, opt, &(struct group_req){r.gsr_interface, r.gsr_group}, sizeof(struct group_req)));
}

static int receiver(int family) {
	int fd = CHECK(socket(family, SOCK_DGRAM | SOCK_NONBLOCK, 0));
	struct sockaddr_storage any = at(family == AF_INET ? "0.0.0.0" : "::", 0);
	CHECK(bind(fd, (void *)&any, sizeof(struct sockaddr_in6)));
	set(fd, family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6, family == AF_INET ? IP_MULTICAST_ALL : IPV6_MULTICAST_ALL, 0);
	return fd;
}

// look notes which sources of a group of IPv6 a socket hears: loopback has no
// route to send any there.
static void look(int fd, const char *ip) {
	char b[sizeof(struct group_filter) + 4 * sizeof(struct sockaddr_storage)] = {0}, source[50] = "";
	struct group_filter *f = (void *)b;
	f->gf_interface = if_nametoindex("lo"), f->gf_group = at(ip, 0), f->gf_numsrc = 4;
	socklen_t len = sizeof b;
	if (getsockopt(fd, IPPROTO_IPV6, MCAST_MSFILTER, f, &len)) {
		obs("%s: %s", ip, strerror(errno));
		return;
	}
	if (f->gf_numsrc)
		inet_ntop(AF_INET6, &((struct sockaddr_in6 *)&f->gf_slist[0])->sin6_addr, source, sizeof source);
	obs("%s: mode %d, %d sources %s", ip, f->gf_fmode, f->gf_numsrc, source);
}

// tell sends a datagram to a group from an address, and notes whether it came.
static void tell(int fd, const char *ip, const char *from) {
	int family = strchr(ip, ':') ? AF_INET6 : AF_INET, s = CHECK(socket(family, SOCK_DGRAM, 0));
	struct sockaddr_storage own = at(from, 0), to = at(ip, 0), here;
	socklen_t len = sizeof here;
	char b;
	CHECK(getsockname(fd, (void *)&here, &len));
	((struct sockaddr_in *)&to)->sin_port = ((struct sockaddr_in *)&here)->sin_port;
	CHECK(bind(s, (void *)&own, sizeof(struct sockaddr_in6)));
	if (family == AF_INET)
		CHECK(setsockopt(s, IPPROTO_IP, IP_MULTICAST_IF, &(struct ip_mreqn){.imr_ifindex = if_nametoindex("lo")}, sizeof(struct ip_mreqn)));
	else
		set(s, IPPROTO_IPV6, IPV6_MULTICAST_IF, if_nametoindex("lo"));
	CHECK(sendto(s, "x", 1, 0, (void *)&to, sizeof(struct sockaddr_in6)));
	obs("%s from %s: %s", ip, from, poll(&(struct pollfd){fd, POLLIN, 0}, 1, 0) == 1 && CHECK(recv(fd, &b, 1, 0)) == 1 ? "heard" : "not heard");
	close(s);
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	int v4 = receiver(AF_INET), v6 = receiver(AF_INET6);
	struct ip_mreq by_address = {{inet_addr("239.1.1.4")}, {htonl(INADDR_LOOPBACK)}};
	group(v4, IPPROTO_IP, MCAST_JOIN_GROUP, "239.1.1.1", NULL);
	group(v4, IPPROTO_IP, MCAST_JOIN_SOURCE_GROUP, "239.1.1.2", "127.0.0.2"), group(v4, IPPROTO_IP, MCAST_JOIN_SOURCE_GROUP, "239.1.1.2", "127.0.0.3");
	group(v4, IPPROTO_IP, MCAST_JOIN_GROUP, "239.1.1.3", NULL), group(v4, IPPROTO_IP, MCAST_BLOCK_SOURCE, "239.1.1.3", "127.0.0.2");
	CHECK(setsockopt(v4, IPPROTO_IP, IP_ADD_MEMBERSHIP, &by_address, sizeof by_address));
	group(v6, IPPROTO_IPV6, MCAST_JOIN_GROUP, "ff01::1:1", NULL), group(v6, IPPROTO_IP, MCAST_JOIN_GROUP, "239.1.1.1", NULL);
	group(v6, IPPROTO_IPV6, MCAST_JOIN_SOURCE_GROUP, "ff01::1:2", "fe80::1"), group(v6, IPPROTO_IPV6, MCAST_JOIN_GROUP, "ff01::1:3", NULL), group(v6, IPPROTO_IPV6, MCAST_BLOCK_SOURCE, "ff01::1:3", "::1");
	tell(v4, "239.1.1.1", "127.0.0.1"); // stays in the queue
	do {
		for (int i = 1; i <= 5; i++)
			for (int j = 1; j <= 3; j++) {
				char ip[20], from[20];
				sprintf(ip, "239.1.1.%d", i), sprintf(from, "127.0.0.%d", j);
				tell(v4, ip, from);
			}
		for (int i = 1; i <= 4; i++) {
			char ip[20];
			sprintf(ip, "ff01::1:%d", i);
			look(v6, ip);
		}
		tell(v6, "239.1.1.1", "127.0.0.1"), tell(v6, "239.1.1.2", "127.0.0.2");
	} while (savepoint());
	CHECK(setsockopt(v4, IPPROTO_IP, IP_DROP_MEMBERSHIP, &by_address, sizeof by_address));
	return 0;
}
