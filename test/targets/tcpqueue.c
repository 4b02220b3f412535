// TCP connections that nobody has accepted yet: with nothing, a little and much
// to be read, closed and reset by their clients, over IPv4, IPv6 and IPv4 in the
// form of IPv6, from another task of the tree and from the listener's own. They
// are accepted behind the save point, in order, and then used.
#include "ctl.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

enum { SORTS = 4, WAYS = 7, EACH = SORTS * WAYS };
enum { IDLE, SOME, MUCH, CLOSED, DATA_CLOSED, RESET, DATA_RESET };

static int l[SORTS];
static struct sockaddr_in6 at[SORTS];
static socklen_t len[SORTS];
static volatile struct shared {
	int made;
	uint16_t port[EACH];
} *shared;

static size_t bytes(int way) { return way == MUCH ? 50000 : way == SOME || way == DATA_CLOSED || way == DATA_RESET ? 1234 : 0; }

static unsigned char byte(int i, int n) { return i * 31 + n * 7 + (n >> 8); }

static void listener(int sort) {
	struct sockaddr_in in = {AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_in6 in6 = {AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	int v6 = sort == 1 || sort == 2;
	if (sort == 2) // both families
		in6.sin6_addr = (struct in6_addr)IN6ADDR_ANY_INIT;
	l[sort] = CHECK(socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM, 0));
	CHECK(bind(l[sort], v6 ? (void *)&in6 : (void *)&in, v6 ? sizeof in6 : sizeof in));
	CHECK(listen(l[sort], 100));
}

// locate finds out where a listener is: it may have been moved.
static void locate(int sort) {
	len[sort] = sizeof *at;
	CHECK(getsockname(l[sort], (void *)&at[sort], &len[sort]));
	if (sort == 2)
		inet_pton(AF_INET6, "::ffff:127.0.0.1", &at[sort].sin6_addr);
}

static void write_all(int fd, int i, size_t n) {
	static unsigned char b[60000];
	for (size_t j = 0; j < n; j++)
		b[j] = byte(i, j);
	for (size_t done = 0; done < n;)
		done += CHECK(write(fd, b + done, n - done));
}

// connect_one makes connection i and brings it to where it is to be.
static int connect_one(int i) {
	int sort = i % SORTS, way = i / SORTS, fd = CHECK(socket(at[sort].sin6_family, SOCK_STREAM, 0));
	struct sockaddr_in6 own;
	socklen_t size = sizeof own;
	CHECK(connect(fd, (void *)&at[sort], len[sort]));
	CHECK(getsockname(fd, (void *)&own, &size));
	shared->port[i] = own.sin6_port;
	write_all(fd, i, bytes(way));
	if (way == CLOSED || way == DATA_CLOSED)
		CHECK(shutdown(fd, SHUT_WR));
	if (way == RESET || way == DATA_RESET) {
		CHECK(setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger)));
		close(fd);
		return -1;
	}
	return fd;
}

static int mine(int i, int parent) { return parent == (i % SORTS == 3); } // the last sort is within one task

static void connect_all(int fd[EACH], int parent) {
	for (int s = 0; s < SORTS; s++)
		locate(s);
	for (int i = 0; i < EACH; i++) {
		while (shared->made < i)
			nanosleep(&(struct timespec){0, 100000}, NULL);
		if (mine(i, parent)) {
			fd[i] = connect_one(i);
			shared->made++;
		} else
			while (shared->made == i)
				nanosleep(&(struct timespec){0, 100000}, NULL);
	}
}

// read_up reads what came from connection i, n bytes, up to its end if it has one.
static void read_up(int fd, int i, size_t n, const char *end) {
	size_t got = 0;
	unsigned char b[5000];
	ssize_t r = 1;
	while (got < n && (r = read(fd, b, n - got < sizeof b ? n - got : sizeof b)) > 0) {
		for (int j = 0; j < r; j++)
			if (b[j] != byte(i, got + j))
				die("connection %d: byte %zu is wrong", i, got + j);
		got += r;
	}
	if (*end)
		r = read(fd, b, 1);
	obs("connection %d: %zu bytes, then %s", i, got, !*end && r > 0 ? "more may come" : r < 0 ? strerror(errno) : "the end");
}

static void look(int fd, int i) {
	struct tcp_info t;
	socklen_t size = sizeof t;
	int nodelay = 0;
	CHECK(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &t, &size));
	size = sizeof nodelay;
	CHECK(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &nodelay, &size));
	obs("connection %d: state %d, options %d, shifts %d %d, nodelay %d", i, t.tcpi_state, t.tcpi_state == TCP_CLOSE ? 0 : t.tcpi_options, t.tcpi_state == TCP_CLOSE ? 0 : t.tcpi_snd_wscale, t.tcpi_state == TCP_CLOSE ? 0 : t.tcpi_rcv_wscale, nodelay);
}

static void serve(int own[EACH]) {
	for (int way = 0; way < WAYS; way++)
		for (int sort = 0; sort < SORTS; sort++) {
			int i = way * SORTS + sort;
			struct sockaddr_in6 peer;
			socklen_t size = sizeof peer;
			int fd = CHECK(accept(l[sort], (void *)&peer, &size));
			if (peer.sin6_port != shared->port[i])
				die("connection %d is another one", i);
			look(fd, i);
			read_up(fd, i, bytes(way), way >= CLOSED ? "end" : "");
			if (way < CLOSED) { // it goes on in both directions
				write_all(fd, i + 1, 3000);
				if (mine(i, 1))
					read_up(own[i], i + 1, 3000, ""), write_all(own[i], i + 2, 20000), CHECK(shutdown(own[i], SHUT_WR));
				read_up(fd, i + 2, 20000, "end");
			}
			if (mine(i, 1) && own[i] >= 0)
				close(own[i]);
			close(fd);
		}
}

static void use(int fd[EACH]) {
	for (int i = 0; i < EACH; i++) {
		if (!mine(i, 0) || fd[i] < 0)
			continue;
		if (i / SORTS < CLOSED)
			read_up(fd[i], i + 1, 3000, ""), write_all(fd[i], i + 2, 20000), CHECK(shutdown(fd[i], SHUT_WR));
		char b;
		obs("client %d: the end is %zd", i, read(fd[i], &b, 1));
		close(fd[i]);
	}
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	signal(SIGPIPE, SIG_IGN);
	shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	for (int s = 0; s < SORTS; s++)
		listener(s);
	CHECK(setsockopt(l[0], IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int)));
	ctl_party("child");
	pid_t pid = CHECK(fork());
	if (!pid)
		ctl_child("child");
	int fd[EACH], more;
	do {
		connect_all(fd, pid != 0);
		more = savepoint();
		if (pid)
			serve(fd), shared->made = 0;
		else
			use(fd);
		while (!pid && shared->made)
			nanosleep(&(struct timespec){0, 100000}, NULL);
	} while (more);
	if (pid)
		reap(pid);
	return 0;
}
