// TCP connections within the tree: between two tasks and within one, over IPv4,
// IPv6 and IPv4 in the form of IPv6, with options, idle, with a little and with
// full queues in both directions. Every byte is checked.
// Arguments: how many connections of each sort, bytes of each to leave unread
// (0: as many as fit), and base, more or closing: then one side of each
// connection ends its stream at once
#include "ctl.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#define MAX 1000

struct end {
	int fd, conn, side;
	uint64_t sent, got;
	int closed;
};
static struct end ends[2 * MAX];
enum { FASTOPEN_NO_COOKIE = 34 };

static int n, sorts = 4, each, leave, more, closing;
static uint64_t (*total)[2]; // shared: how much each side of a connection has sent

static void set(int fd, int level, int opt, int v) { CHECK(setsockopt(fd, level, opt, &v, sizeof v)); }

static int get(int fd, int level, int opt) {
	int v = 0;
	socklen_t len = sizeof v;
	return getsockopt(fd, level, opt, &v, &len) ? -errno : v;
}

// byte is what belongs at a place of a stream.
static unsigned char byte(int conn, int side, uint64_t at) {
	uint64_t x = (at + 1) * 0x9e3779b97f4a7c15 + conn * 31 + side;
	return x >> 40 ^ x >> 13;
}

static void add(int fd, int conn, int side) {
	CHECK(fcntl(fd, F_SETFL, O_NONBLOCK | fcntl(fd, F_GETFL)));
	ends[n++] = (struct end){fd, conn, side, 0, 0, 0};
}

static void send_some(struct end *e, int want) {
	static unsigned char b[65536];
	uint64_t end = want ? e->sent + want : UINT64_MAX;
	while (e->sent < end) {
		int k = end - e->sent < sizeof b ? end - e->sent : sizeof b;
		for (int i = 0; i < k; i++)
			b[i] = byte(e->conn, e->side, e->sent + i);
		int w = send(e->fd, b, k, 0);
		if (w < 0 && errno == EAGAIN && !want)
			break;
		e->sent += CHECK(w);
	}
	total[e->conn][e->side] = e->sent;
}

static int receive(struct end *e, uint64_t most) {
	static unsigned char b[65536];
	int any = 0;
	while (most) {
		int r = recv(e->fd, b, most < sizeof b ? most : sizeof b, 0);
		if (r < 0 && errno == EAGAIN)
			return any;
		if (!CHECK(r)) // the end
			return any;
		for (int i = 0; i < r; i++)
			if (b[i] != byte(e->conn, !e->side, e->got + i))
				die("connection %d side %d: byte %llu is wrong", e->conn, e->side, (unsigned long long)(e->got + i));
		e->got += r;
		most -= r;
		any = 1;
	}
	return any;
}

// drain reads all that was sent before.
static void drain(void) {
	for (int i = 0; i < n; i++)
		while (ends[i].got < total[ends[i].conn][!ends[i].side])
			if (!receive(&ends[i], total[ends[i].conn][!ends[i].side] - ends[i].got) && !poll(&(struct pollfd){ends[i].fd, POLLIN}, 1, 20000))
				die("connection %d side %d waits for more than %llu of %llu", ends[i].conn, ends[i].side, (unsigned long long)ends[i].got, (unsigned long long)total[ends[i].conn][!ends[i].side]);
}

// meet waits until the other task is here, too.
static void meet(int point) {
	int root = !strcmp(ctl_name, "root");
	total[MAX - 1][root] = point;
	while (((volatile uint64_t(*)[2])total)[MAX - 1][!root] < (uint64_t)point)
		nanosleep(&(struct timespec){0, 1000000}, NULL);
}

static void look(void) {
	static const int tcp[] = {TCP_NODELAY, TCP_CORK, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT, TCP_SYNCNT, TCP_LINGER2, TCP_USER_TIMEOUT, TCP_NOTSENT_LOWAT, TCP_INQ, TCP_DEFER_ACCEPT, TCP_FASTOPEN, TCP_FASTOPEN_CONNECT, FASTOPEN_NO_COOKIE};
	static const int sol[] = {SO_REUSEADDR, SO_REUSEPORT, SO_KEEPALIVE, SO_OOBINLINE, SO_RCVLOWAT, SO_PRIORITY, SO_ERROR};
	static const int ip[] = {IP_TOS, IP_TTL, IP_RECVERR, IP_MTU_DISCOVER};
	static const int v6[] = {IPV6_V6ONLY, IPV6_UNICAST_HOPS, IPV6_TCLASS};
	for (int i = 0; i < n && i < 16; i++) {
		int fd = ends[i].fd, p = 0;
		char line[1000], cc[16] = "";
		struct tcp_info t = {0};
		struct sockaddr_in6 at = {0}, to = {0};
		socklen_t len = sizeof t, al = sizeof at, tl = sizeof to, cl = sizeof cc;
		CHECK(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &t, &len));
		CHECK(getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, cc, &cl));
		p += sprintf(line, "flags %o, state %d, options %d, shifts %d %d, %s", fcntl(fd, F_GETFL), closing ? 0 : t.tcpi_state, t.tcpi_options, t.tcpi_snd_wscale, t.tcpi_rcv_wscale, more ? cc : "");
		for (unsigned j = 0; j < (more ? sizeof tcp / sizeof *tcp : 5); j++)
			p += sprintf(line + p, " %d", get(fd, IPPROTO_TCP, tcp[j]));
		for (unsigned j = 0; more && j < sizeof sol / sizeof *sol; j++)
			p += sprintf(line + p, " %d", get(fd, SOL_SOCKET, sol[j]));
		for (unsigned j = 0; j < sizeof ip / sizeof *ip; j++)
			p += sprintf(line + p, " %d", get(fd, IPPROTO_IP, ip[j]));
		for (unsigned j = 0; more && j < sizeof v6 / sizeof *v6; j++)
			p += sprintf(line + p, " %d", get(fd, IPPROTO_IPV6, v6[j]));
		obs("end %d: %s", i, line);
		CHECK(getsockname(fd, (void *)&at, &al)), CHECK(getpeername(fd, (void *)&to, &tl));
		obs("=end %d: %016llx %016llx", i, (unsigned long long)fnv(&at, al), (unsigned long long)fnv(&to, tl));
	}
}

// work lets data lie in all queues at a save point, and reads all of it behind.
static void work(void) {
	do {
		drain();
		look();
		for (int i = 0; i < n; i++)
			if (ends[i].conn % 3 && !ends[i].closed)
				send_some(&ends[i], leave);
		for (int i = 0; closing && i < n; i++)
			if (!ends[i].side && !ends[i].closed)
				ends[i].closed = !CHECK(shutdown(ends[i].fd, SHUT_WR));
		for (int i = 0; i < n; i++)
			if (ends[i].conn % 3 == 2)
				receive(&ends[i], 777 < total[ends[i].conn][!ends[i].side] - ends[i].got ? 777 : 0);
	} while (savepoint());
	meet(1); // both have sent all
	drain();
	for (int i = 0; closing && i < n; i++) {
		char b;
		struct pollfd p = {ends[i].fd, POLLIN};
		if (ends[i].side)
			MUST(poll(&p, 1, 20000) == 1 && recv(ends[i].fd, &b, 1, 0) == 0);
	}
	obs("all was there");
	meet(2); // both have read all
	savepoint();
}

static int listener(int sort, struct sockaddr_in6 *at, socklen_t *len) {
	struct sockaddr_in in = {AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_in6 in6 = {AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	if (sort == 2) // both families
		in6.sin6_addr = (struct in6_addr)IN6ADDR_ANY_INIT;
	int v6 = sort == 1 || sort == 2, fd = CHECK(socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM, 0));
	CHECK(bind(fd, v6 ? (void *)&in6 : (void *)&in, v6 ? sizeof in6 : sizeof in));
	CHECK(listen(fd, 1000));
	CHECK(getsockname(fd, (void *)at, len));
	if (sort == 2)
		inet_pton(AF_INET6, "::ffff:127.0.0.1", &at->sin6_addr);
	return fd;
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	each = atoi(argv[1]), leave = atoi(argv[2]), more = !strcmp(argv[3], "more"), closing = !strcmp(argv[3], "closing");
	total = mmap(NULL, sizeof *total * MAX, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct sockaddr_in6 at[4];
	socklen_t len[4];
	int l[4], client[MAX], k = 0;
	for (int s = 0; s < sorts; s++) {
		len[s] = sizeof *at;
		l[s] = listener(s, &at[s], &len[s]);
		if (s == 0)
			set(l[s], SOL_SOCKET, SO_REUSEADDR, 1), set(l[s], IPPROTO_TCP, TCP_NODELAY, 1), set(l[s], IPPROTO_TCP, TCP_USER_TIMEOUT, more ? 77777 : 0), set(l[s], IPPROTO_TCP, TCP_FASTOPEN, more ? 5 : 0);
		for (int i = 0; i < each; i++) {
			client[k++] = CHECK(socket(at[s].sin6_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
			if (more && i == each - 1) // they count before there is a connection
				set(client[k - 1], IPPROTO_TCP, TCP_DEFER_ACCEPT, 7), set(client[k - 1], IPPROTO_TCP, s % 2 ? FASTOPEN_NO_COOKIE : TCP_FASTOPEN_CONNECT, 1);
			CHECK(connect(client[k - 1], (void *)&at[s], len[s]));
		}
	}
	set(client[1], IPPROTO_TCP, TCP_CORK, 1), set(client[2], SOL_SOCKET, SO_KEEPALIVE, 1), set(client[2], IPPROTO_TCP, TCP_KEEPIDLE, 99);
	set(client[0], SOL_SOCKET, SO_REUSEADDR, 1);
	if (more)
		set(client[0], IPPROTO_IP, IP_TOS, 0x10), set(client[0], IPPROTO_IP, IP_RECVERR, 1);
	// The last sort is within one task, all others between two.
	ctl_party("child");
	pid_t pid = CHECK(fork());
	int here = 3 * each;
	if (!pid)
		ctl_child("child");
	for (int i = 0; i < k; i++) {
		if (!pid && i < here)
			add(client[i], i, 0);
		else
			pid && i < here ? close(client[i]) : 0;
	}
	for (int i = 0; pid && i < k; i++) {
		int a = CHECK(accept(l[i / each], NULL, NULL));
		add(a, i, 1);
		if (i >= here)
			add(client[i], i, 0);
	}
	if (!pid)
		for (int i = here; i < k; i++)
			close(client[i]);
	work();
	if (pid)
		reap(pid);
	return 0;
}
