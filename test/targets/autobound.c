// TCP sockets that got their port from the kernel, which takes it back when they are shut
// down or disconnected, beside such that were bound to one. In the end all are shut down.
#include "ctl.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

static struct {
	const char *name;
	int fd, family, port;
} s[16];
static int n;

static socklen_t fill(struct sockaddr_storage *a, int family, int any, int port) {
	memset(a, 0, sizeof *a);
	a->ss_family = family;
	if (family == AF_INET) {
		struct sockaddr_in *x = (void *)a;
		x->sin_port = htons(port), x->sin_addr.s_addr = htonl(any ? INADDR_ANY : INADDR_LOOPBACK);
		return sizeof *x;
	}
	struct sockaddr_in6 *x = (void *)a;
	x->sin6_port = htons(port), x->sin6_addr = any ? in6addr_any : in6addr_loopback;
	return sizeof *x;
}

static int port(int fd) {
	struct sockaddr_storage a;
	socklen_t len = sizeof a;
	CHECK(getsockname(fd, (void *)&a, &len));
	return ntohs(((struct sockaddr_in *)&a)->sin_port); // as of IPv6
}

static int get(int fd, int level, int opt) {
	int v = 0;
	socklen_t len = sizeof v;
	return getsockopt(fd, level, opt, &v, &len) ? -errno : v;
}

static void set(int fd, int level, int opt, int v) { CHECK(setsockopt(fd, level, opt, &v, sizeof v)); }

enum { ANY = 1, UNBOUND = 2, LISTENS = 4, CHOSEN = 8, SHUT = 16, REUSE = 32, LATER = 64 };

static int add(const char *name, int family, int how) {
	struct sockaddr_storage a;
	int fd = s[n].fd = CHECK(socket(family, SOCK_STREAM, 0)), at = 0;
	s[n].name = name, s[n].family = family;
	if (how & REUSE)
		set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	if (how & LATER)
		set(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
	set(fd, IPPROTO_TCP, TCP_KEEPCNT, 5);
	if (how & CHOSEN) { // a port that is free
		int other = CHECK(socket(family, SOCK_STREAM, 0));
		CHECK(bind(other, (void *)&a, fill(&a, family, how & ANY, 0)));
		at = port(other);
		CHECK(close(other));
	}
	if (!(how & UNBOUND))
		CHECK(bind(fd, (void *)&a, fill(&a, family, how & ANY, at)));
	if (how & LISTENS)
		CHECK(listen(fd, 3));
	s[n++].port = port(fd);
	if (how & SHUT)
		CHECK(shutdown(fd, SHUT_RD));
	return fd;
}

// taken tells whether somebody has the port of a socket.
static const char *taken(int i) {
	struct sockaddr_storage a;
	if (!s[i].port)
		return "none";
	int fd = CHECK(socket(s[i].family, SOCK_STREAM, 0));
	int failed = bind(fd, (void *)&a, fill(&a, s[i].family, 0, s[i].port)) ? errno : 0;
	CHECK(close(fd));
	return failed ? strerror(failed) : "free";
}

static void look(int i) {
	int fd = s[i].fd;
	obs("%s: %s port, %s, listens %d, V6ONLY %d, range %#x, later %d, maxseg %d, keepcnt %d", s[i].name, port(fd) == s[i].port ? "its" : "another", taken(i),
		get(fd, SOL_SOCKET, SO_ACCEPTCONN), get(fd, IPPROTO_IPV6, IPV6_V6ONLY), get(fd, IPPROTO_IP, 51 /* IP_LOCAL_PORT_RANGE */),
		get(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT), get(fd, IPPROTO_TCP, TCP_MAXSEG), get(fd, IPPROTO_TCP, TCP_KEEPCNT));
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	add("listens", AF_INET, LISTENS);
	add("listens to all", AF_INET, ANY | LISTENS);
	add("listens unbound", AF_INET, UNBOUND | LISTENS);
	add("listens, of IPv6", AF_INET6, LISTENS);
	add("listens unbound, of IPv6", AF_INET6, UNBOUND | LISTENS);
	add("listens, may be beside others", AF_INET, LISTENS | REUSE);
	add("listens, bound without a port", AF_INET, LISTENS | LATER);
	add("listens at a port", AF_INET, LISTENS | CHOSEN);
	add("bound", AF_INET, 0);
	add("bound to a port", AF_INET, CHOSEN);
	add("shut down at a port", AF_INET, CHOSEN | LISTENS | SHUT);
	int shut = add("shut down", AF_INET, LISTENS | SHUT);
	set(shut, IPPROTO_TCP, TCP_MAXSEG, 800);
	struct sockaddr_storage a; // what one gave up another one has
	int fd = s[n].fd = CHECK(socket(AF_INET, SOCK_STREAM, 0));
	s[n].name = "has its port", s[n].family = AF_INET, s[n++].port = port(shut);
	CHECK(bind(fd, (void *)&a, fill(&a, AF_INET, 0, port(shut))));
	add("shut down, of IPv6", AF_INET6, ANY | LISTENS | SHUT); // last: the kernel may give its port to the next
	add("shut down, unbound", AF_INET, UNBOUND | LISTENS | SHUT);
	set(s[0].fd, IPPROTO_IP, 51, 61000 << 16 | 40000);
	do
		for (int i = 0; i < n; i++)
			look(i);
	while (savepoint());
	for (int i = 0; i < n; i++) {
		if (shutdown(s[i].fd, SHUT_RDWR) && errno != ENOTCONN)
			die("shutdown: %s", strerror(errno));
		look(i);
	}
	for (int i = 0; i < n; i++) {
		struct sockaddr none = {AF_UNSPEC};
		CHECK(connect(s[i].fd, &none, sizeof none));
		look(i);
	}
	for (int i = 0; i < n; i++) // all have been looked at: it may be a port that another one tells
		obs("%s: bound anew: %s", s[i].name, bind(s[i].fd, (void *)&a, fill(&a, s[i].family, 0, 0)) ? strerror(errno) : "ok");
	savepoint();
	return 0;
}
