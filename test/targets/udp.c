// UDP sockets with something in their queues: datagrams of several senders, empty
// and large ones, with their TTL and TOS; what is kept back until there is more
// of it; errors that nobody has read yet. Over IPv4, IPv6 and IPv4 in the form of
// IPv6. Told "lite", of UDP-Lite, and what its checksums cover. Told "many", among
// more with empty queues than are asked one by one. Told "handed", only in messages of
// unix connections that nobody has accepted; there are none then that share a port.
#include "ctl.h"
#include <arpa/inet.h>
#include <linux/errqueue.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

enum { SORTS = 3, SEND_COVERAGE = 10, RECEIVE_COVERAGE = 11 };

static int protocol = IPPROTO_UDP, handed, door = -1;

struct at {
	struct sockaddr_in6 a;
	socklen_t len;
};

static void set(int fd, int level, int opt, int v) { CHECK(setsockopt(fd, level, opt, &v, sizeof v)); }

static int fresh(int sort) { return CHECK(socket(sort ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, protocol)); }

static struct at name(int fd) {
	struct at at = {.len = sizeof at.a};
	CHECK(getsockname(fd, (void *)&at.a, &at.len));
	return at;
}

static struct at loopback(int sort, int port) {
	struct at at = {.len = sizeof at.a};
	memset(&at.a, 0, sizeof at.a);
	if (sort) {
		at.a.sin6_family = AF_INET6, at.a.sin6_port = port;
		inet_pton(AF_INET6, sort == 1 ? "::1" : "::ffff:127.0.0.1", &at.a.sin6_addr);
		return at;
	}
	struct sockaddr_in *in = (void *)&at.a;
	*in = (struct sockaddr_in){AF_INET, port, {htonl(INADDR_LOOPBACK)}, {0}};
	at.len = sizeof *in;
	return at;
}

static int bound(int sort) {
	int fd = fresh(sort);
	struct at at = loopback(sort, 0);
	CHECK(bind(fd, (void *)&at.a, at.len));
	return fd;
}

static void to(int fd, struct at at) { CHECK(connect(fd, (void *)&at.a, at.len)); }

static void send_to(int fd, struct at at, int n, int flags) {
	static char b[65536];
	for (int i = 0; i < n; i++)
		b[i] = n + i * 7;
	MUST(sendto(fd, b, n, flags, (void *)&at.a, at.len) == n);
}

// receive notes the next datagram; from is the socket it should have come from.
static void receive(const char *what, int fd, int from) {
	static char b[65536];
	char control[512];
	struct at at = {.len = sizeof at.a}, want = name(from);
	struct iovec iov = {b, sizeof b};
	struct msghdr m = {.msg_name = &at.a, .msg_namelen = at.len, .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
	int n = recvmsg(fd, &m, 0);
	if (n < 0) {
		obs("%s: %s", what, strerror(errno));
		return;
	}
	int hops = -1, class = -1;
	unsigned long long ip = at.a.sin6_family == AF_INET ? ntohl(((struct sockaddr_in *)&at.a)->sin_addr.s_addr) : fnv(&at.a.sin6_addr, 16);
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
		if (c->cmsg_type == (c->cmsg_level == IPPROTO_IP ? IP_TTL : IPV6_HOPLIMIT))
			hops = *(int *)CMSG_DATA(c);
		if (c->cmsg_type == (c->cmsg_level == IPPROTO_IP ? IP_TOS : IPV6_TCLASS))
			class = *(unsigned char *)CMSG_DATA(c);
	}
	obs("%s: %d bytes, %llx, hops %d, class %d, sender %s at %llx", what, n, (unsigned long long)fnv(b, n), hops, class, at.a.sin6_port == want.a.sin6_port ? "right" : "wrong", ip);
}

// failure notes what waits in the error queue, and the error.
static void failure(const char *what, int fd) {
	char b[512], control[512];
	struct iovec iov = {b, sizeof b};
	for (;;) {
		struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
		int n = recvmsg(fd, &m, MSG_ERRQUEUE);
		if (n < 0)
			break;
		for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c))
			if (c->cmsg_type == IP_RECVERR || c->cmsg_type == IPV6_RECVERR) {
				struct sock_extended_err *e = (void *)CMSG_DATA(c);
				obs("%s: %s, origin %d, type %d, code %d, %d bytes %llx", what, strerror(e->ee_errno), e->ee_origin, e->ee_type, e->ee_code, n, (unsigned long long)fnv(b, n));
			}
	}
	int error = 0;
	socklen_t size = sizeof error;
	CHECK(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size));
	obs("%s: error %s", what, strerror(error));
}

// room is a port where nobody is.
static struct at nobody(int sort) {
	int fd = bound(sort);
	struct at at = name(fd);
	close(fd);
	return at;
}

struct state {
	int in, out[2], shared[2], plain, corked, failed, queued, read_once, down, partly, strict;
};

// send_with keeps back what has a TTL, a TOS and a source of its own.
static void send_with(int fd, int sort, struct at at) {
	char control[200] = {0}, text[] = "with it";
	int ttl = 77, tos = 0x48, six = sort == 1;
	struct iovec v = {text, 7};
	struct msghdr m = {&at.a, at.len, &v, 1, control, 0, 0};
	struct in_pktinfo from = {.ipi_spec_dst = {htonl(0x7f000005)}};
	struct {
		int level, type;
		void *data;
		int size;
	} all[] = {{six ? IPPROTO_IPV6 : IPPROTO_IP, six ? IPV6_HOPLIMIT : IP_TTL, &ttl, sizeof ttl}, {six ? IPPROTO_IPV6 : IPPROTO_IP, six ? IPV6_TCLASS : IP_TOS, &tos, sizeof tos}, {IPPROTO_IP, IP_PKTINFO, &from, sizeof from}};
	for (int i = 0; i < 3 - six; i++) {
		struct cmsghdr *c = (void *)(control + m.msg_controllen);
		c->cmsg_level = all[i].level, c->cmsg_type = all[i].type, c->cmsg_len = CMSG_LEN(all[i].size);
		memcpy(CMSG_DATA(c), all[i].data, all[i].size);
		m.msg_controllen += CMSG_SPACE(all[i].size);
	}
	MUST(sendmsg(fd, &m, MSG_MORE) == 7);
}

static struct state make(int sort) {
	struct state s = {.in = bound(sort), .out = {bound(sort), bound(sort)}, .plain = bound(sort), .corked = bound(sort), .failed = bound(sort), .queued = bound(sort), .read_once = bound(sort), .down = fresh(sort), .partly = bound(sort), .strict = bound(sort)};
	struct at in = name(s.in);
	int v6 = sort == 1;
	set(s.in, IPPROTO_IP, IP_RECVTTL, 1), set(s.in, IPPROTO_IP, IP_RECVTOS, 1);
	if (sort)
		set(s.in, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1), set(s.in, IPPROTO_IPV6, IPV6_RECVTCLASS, 1);
	set(s.out[1], v6 ? IPPROTO_IPV6 : IPPROTO_IP, v6 ? IPV6_TCLASS : IP_TOS, 0x28), set(s.out[1], v6 ? IPPROTO_IPV6 : IPPROTO_IP, v6 ? IPV6_UNICAST_HOPS : IP_TTL, 33);
	set(s.in, SOL_SOCKET, SO_RCVBUF, 200000);
	send_to(s.out[0], in, 100, 0), send_to(s.out[1], in, 0, 0), send_to(s.out[1], in, 60000, 0), send_to(s.out[0], in, 1, 0);
	// Two that share a port, and each has got something.
	int both = protocol == IPPROTO_UDP && !handed;
	s.shared[0] = fresh(sort), set(s.shared[0], SOL_SOCKET, SO_REUSEPORT, !handed);
	struct at at = loopback(sort, 0);
	CHECK(bind(s.shared[0], (void *)&at.a, at.len));
	at = name(s.shared[0]);
	if (both)
		send_to(s.out[0], at, 10, 0);
	s.shared[1] = fresh(sort), set(s.shared[1], SOL_SOCKET, SO_REUSEPORT, !handed);
	if (!handed)
		CHECK(bind(s.shared[1], (void *)&at.a, at.len));
	to(s.shared[1], name(s.out[1]));
	if (both)
		send_to(s.out[1], at, 20, 0);
	if (protocol == IPPROTO_UDPLITE) {
		set(s.partly, protocol, SEND_COVERAGE, 20), set(s.in, protocol, RECEIVE_COVERAGE, 12);
		set(s.strict, protocol, RECEIVE_COVERAGE, 0), send_to(s.partly, in, 300, 0);
	}
	// Kept back: to a peer, and to an address.
	send_with(s.plain, sort, in), send_to(s.plain, in, 3000, MSG_MORE);
	to(s.corked, in), set(s.corked, IPPROTO_UDP, UDP_CORK, 1);
	MUST(send(s.corked, "corked", 6, 0) == 6);
	// Errors: one that waits, one with what brought it, one of which only that is left.
	for (int i = 0; i < 3; i++) {
		int fd = (int[]){s.failed, s.queued, s.read_once}[i];
		if (i)
			set(fd, sort ? IPPROTO_IPV6 : IPPROTO_IP, sort ? IPV6_RECVERR : IP_RECVERR, 1);
		if (i && sort == 2)
			set(fd, IPPROTO_IP, IP_RECVERR, 1);
		to(fd, nobody(sort));
		MUST(send(fd, "nobody", 6, 0) == 6);
		poll(&(struct pollfd){fd, 0, 0}, 1, 20000);
	}
	int error;
	socklen_t size = sizeof error;
	CHECK(getsockopt(s.read_once, SOL_SOCKET, SO_ERROR, &error, &size));
	to(s.down, in), CHECK(shutdown(s.down, SHUT_RD)), CHECK(connect(s.down, &(struct sockaddr){.sa_family = AF_UNSPEC}, sizeof(struct sockaddr)));
	return s;
}

// covers notes what checksums cover of UDP-Lite: one socket takes no datagram that
// is covered in part, one takes none that is covered less than it wants.
static void covers(struct state *s) {
	if (protocol != IPPROTO_UDPLITE)
		return;
	int all[] = {s->in, s->partly, s->strict};
	for (int i = 0; i < 3; i++) {
		int send, receive;
		socklen_t size = sizeof send;
		CHECK(getsockopt(all[i], protocol, SEND_COVERAGE, &send, &size));
		CHECK(getsockopt(all[i], protocol, RECEIVE_COVERAGE, &receive, &size));
		obs("covered: %d sent, %d received", send, receive);
	}
	send_to(s->partly, name(s->strict), 100, 0), send_to(s->out[0], name(s->strict), 50, 0);
	receive("strict", s->strict, s->out[0]), receive("strict, no more", s->strict, s->out[0]);
	send_to(s->partly, name(s->in), 100, 0);
	set(s->partly, protocol, SEND_COVERAGE, 10), send_to(s->partly, name(s->in), 90, 0);
	receive("wide enough", s->in, s->partly), receive("too narrow", s->in, s->partly);
}

static void look(struct state *s) {
	receive("first", s->in, s->out[0]), receive("empty", s->in, s->out[1]), receive("large", s->in, s->out[1]), receive("last", s->in, s->out[0]), receive("covered in part", s->in, s->partly), receive("none", s->in, s->out[0]);
	receive("shared", s->shared[0], s->out[0]), receive("shared and connected", s->shared[1], s->out[1]);
	covers(s);
	MUST(send(s->corked, " and sent", 9, 0) == 9);
	set(s->corked, IPPROTO_UDP, UDP_CORK, 0);
	receive("corked", s->in, s->corked);
	send_to(s->plain, name(s->in), 3, 0);
	receive("more", s->in, s->plain);
	failure("failed", s->failed), failure("queued", s->queued), failure("read once", s->read_once);
	struct pollfd p = {s->down, POLLIN | POLLRDHUP, 0};
	poll(&p, 1, 0);
	obs("shut down: %x", p.revents);
	for (unsigned i = 0; i < sizeof *s / sizeof(int); i++)
		close(((int *)s)[i]);
}

enum { ALL = sizeof(struct state) / sizeof(int) };

// hand sends all sockets away, and receive_all takes them.
static void hand(struct state *s) {
	struct sockaddr_un un = {AF_UNIX, ""};
	socklen_t len = offsetof(struct sockaddr_un, sun_path); // it gets a name by itself
	if (door < 0)
		door = CHECK(socket(AF_UNIX, SOCK_STREAM, 0)), CHECK(bind(door, (void *)&un, len)), CHECK(listen(door, SORTS));
	len = sizeof un;
	CHECK(getsockname(door, (void *)&un, &len));
	int c = CHECK(socket(AF_UNIX, SOCK_STREAM, 0));
	CHECK(connect(c, (void *)&un, len));
	char control[CMSG_SPACE(sizeof *s)] = {0};
	struct iovec v = {"all", 3};
	struct msghdr m = {NULL, 0, &v, 1, control, sizeof control, 0};
	*CMSG_FIRSTHDR(&m) = (struct cmsghdr){CMSG_LEN(sizeof *s), SOL_SOCKET, SCM_RIGHTS};
	memcpy(CMSG_DATA(CMSG_FIRSTHDR(&m)), s, sizeof *s);
	CHECK(sendmsg(c, &m, 0)), close(c);
	for (int i = 0; i < ALL; i++)
		close(((int *)s)[i]);
}

static void receive_all(struct state *s) {
	char control[CMSG_SPACE(sizeof *s)], data[3];
	struct iovec v = {data, sizeof data};
	struct msghdr m = {NULL, 0, &v, 1, control, sizeof control, 0};
	int c = CHECK(accept(door, NULL, NULL));
	CHECK(recvmsg(c, &m, 0)), close(c);
	MUST(CMSG_FIRSTHDR(&m)->cmsg_len == CMSG_LEN(sizeof *s));
	memcpy(s, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof *s);
}

enum { CROWD = 120 };

static struct member {
	int fd;
	struct at at, peer;
} crowd[CROWD];

static struct at peer_of(int fd) {
	struct at at = {.len = sizeof at.a};
	if (getpeername(fd, (void *)&at.a, &at.len))
		at.len = 0;
	return at;
}

// gather makes sockets that are bound, or connected, or both.
static void gather(void) {
	for (int i = 0; i < CROWD; i++) {
		struct member *m = &crowd[i];
		struct at at = loopback(i % SORTS, 0);
		m->fd = fresh(i % SORTS);
		if (i < SORTS || i % 4 != 3)
			CHECK(bind(m->fd, (void *)&at.a, at.len));
		if (i >= SORTS && i % 4 >= 2)
			to(m->fd, crowd[i % SORTS].at);
		if (i % 8 == 5)
			set(m->fd, SOL_SOCKET, SO_RCVBUF, 40000), set(m->fd, IPPROTO_IP, IP_TTL, 7);
		m->at = name(m->fd), m->peer = peer_of(m->fd);
	}
}

static int same(struct at a, struct at b) { return a.len == b.len && !memcmp(&a.a, &b.a, a.len); }

// disperse notes whether they are as they were, and what a disconnected one is bound to.
static void disperse(void) {
	int kept = 0, sent = 0, bound = 0, ttl = 0;
	for (int i = 0; i < CROWD; i++) {
		struct member *m = &crowd[i];
		char c;
		int n;
		socklen_t size = sizeof n;
		kept += same(name(m->fd), m->at) && same(peer_of(m->fd), m->peer);
		if (m->peer.len && send(m->fd, "x", 1, 0) == 1 && poll(&(struct pollfd){crowd[i % SORTS].fd, POLLIN, 0}, 1, 20000) == 1)
			sent += recv(crowd[i % SORTS].fd, &c, 1, 0) == 1;
		CHECK(getsockopt(m->fd, IPPROTO_IP, IP_TTL, &n, &size));
		ttl += n;
		if (m->peer.len) {
			CHECK(connect(m->fd, &(struct sockaddr){.sa_family = AF_UNSPEC}, sizeof(struct sockaddr)));
			struct at at = name(m->fd), none = {.a.sin6_family = at.a.sin6_family, .len = at.len};
			bound += !same(at, none);
		}
	}
	for (int i = 0; i < CROWD; i++)
		close(crowd[i].fd);
	obs("of a crowd %d are the same, %d can send, %d are bound without a peer, TTL %d", kept, sent, bound, ttl);
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	int many = argc > 1 && !strcmp(argv[1], "many");
	if (argc > 1 && !strcmp(argv[1], "lite"))
		protocol = IPPROTO_UDPLITE;
	handed = argc > 1 && !strcmp(argv[1], "handed");
	int more;
	do {
		struct state s[SORTS];
		for (int i = 0; i < SORTS; i++)
			s[i] = make(i);
		for (int i = 0; i < SORTS && handed; i++)
			hand(&s[i]);
		if (many)
			gather();
		more = savepoint();
		if (many)
			disperse();
		for (int i = 0; i < SORTS && handed; i++)
			receive_all(&s[i]);
		for (int i = 0; i < SORTS; i++)
			look(&s[i]);
	} while (more);
	return 0;
}
