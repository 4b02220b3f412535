// Does random things with TCP and UDP sockets, which ones argv[1] decides: argv[2]
// steps before every save point. Several tasks take turns, the first one says who
// is next; one of them is outside of the tree, if argv[3] is not 0. Who has done
// something waits until its packets have been handled, so that what comes next
// finds the same in every run.
#include "ctl.h"
#include <arpa/inet.h>
#include <linux/errqueue.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

enum { MOST = 120, TASKS = 5, OUTSIDE = 1, HOLE = 3, FREE = 10900 };
enum { STEP, SHOW, AGAIN, LATE, SAVE, CALM, READ, TALK, CLOSE, END };
union addr { struct sockaddr sa; struct sockaddr_in v4; struct sockaddr_in6 v6; };

// What is known of each socket, by all tasks: what may be done next without that
// the time it takes decides what comes of it.
static struct shared {
	volatile int turn, cmd, gen;
	uint64_t state; // of the random numbers
	int made, tasks;
	struct rec {
		int family, type, port, bound, backlog, queued, hole, shared, target, refs;
		int unconfirmed, waits, fuzzy, oob, peer, ended, lost, own, met, ports[2];
		uint64_t sent, got;
	} r[MOST];
} *sh;

static int me, fds[MOST], ep, mail[TASKS][2], tasks;

static unsigned rnd(unsigned n) {
	uint64_t s = sh->state;
	s ^= s << 13, s ^= s >> 7, s ^= s << 17;
	return (sh->state = s) % n;
}

static int get(int fd, int level, int opt) {
	int v = 0;
	socklen_t len = sizeof v;
	return getsockopt(fd, level, opt, &v, &len) ? -errno : v;
}

static int set(int fd, int level, int opt, int v) { return setsockopt(fd, level, opt, &v, sizeof v); }

// note notes what came of a step.
static void note(const char *what, int no, long r) {
	int e = errno;
	obs("%d: %s %d: %ld %s", me, what, no, r, r < 0 ? strerror(e) : "");
}

// settle waits until this CPU, the only one, has handled the packets that were sent.
static void settle(void) {
	struct sockaddr_in at = {AF_INET, 0, {htonl(INADDR_LOOPBACK)}, {0}};
	socklen_t len = sizeof at;
	int fd = CHECK(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
	CHECK(bind(fd, (void *)&at, len)), CHECK(getsockname(fd, (void *)&at, &len)), CHECK(connect(fd, (void *)&at, len));
	for (char i = 0; i < 6; i++)
		CHECK(send(fd, &i, 1, 0)), CHECK(recv(fd, &i, 1, 0));
	close(fd);
}

// calm waits until all is sent that this task has sent, if it can be.
static void calm(int no, int most) {
	int n = 0, state;
	for (int i = 0; i < most * 10 && !sh->r[no].fuzzy; i++) {
		struct tcp_info t = {0};
		socklen_t len = sizeof t;
		if (getsockopt(fds[no], IPPROTO_TCP, TCP_INFO, &t, &len) || ((state = t.tcpi_state) != TCP_ESTABLISHED && state != TCP_CLOSE_WAIT && state != TCP_FIN_WAIT1 && state != TCP_CLOSING && state != TCP_LAST_ACK))
			return;
		if (ioctl(fds[no], SIOCOUTQNSD, &n) || !n)
			return;
		nanosleep(&(struct timespec){0, 100000}, NULL);
	}
	if (!sh->r[no].fuzzy)
		obs("%d: %d does not get on, %d bytes aren't sent", me, no, n);
}

// The addresses that sockets are bound to, and the ones that they are called by then.
static const char *const addresses[] = {"127.0.0.1", "127.0.0.2", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1"};
static const char *const calls[] = {"127.0.0.1", "127.0.0.2", "127.0.0.1", "::1", "::1", "::ffff:127.0.0.1"};

static socklen_t fill(union addr *a, const char *text, int port) {
	memset(a, 0, sizeof *a);
	if (strchr(text, ':')) {
		a->v6.sin6_family = AF_INET6, a->v6.sin6_port = htons(port);
		inet_pton(AF_INET6, text, &a->v6.sin6_addr);
		return sizeof a->v6;
	}
	a->v4.sin_family = AF_INET, a->v4.sin_port = htons(port);
	inet_pton(AF_INET, text, &a->v4.sin_addr);
	return sizeof a->v4;
}

// name tells an address, of ports only the ones that were chosen here.
static char *name(char *out, union addr *a, socklen_t len) {
	if (len == 0 || a->sa.sa_family == AF_UNSPEC)
		return strcpy(out, "none");
	char ip[60];
	inet_ntop(a->sa.sa_family, a->sa.sa_family == AF_INET ? (void *)&a->v4.sin_addr : (void *)&a->v6.sin6_addr, ip, sizeof ip);
	int port = ntohs(a->v4.sin_port);
	if (port >= 32768)
		port = -1; // the kernel's choice
	sprintf(out, "%s:%d", ip, port);
	return out;
}

static const char *own(int fd, int peer) {
	static char out[2][80];
	union addr a;
	socklen_t len = sizeof a;
	if ((peer ? getpeername : getsockname)(fd, &a.sa, &len))
		return strerror(errno);
	return name(out[peer], &a, len);
}

static int port(int fd, int peer) {
	union addr a;
	socklen_t len = sizeof a;
	return (peer ? getpeername : getsockname)(fd, &a.sa, &len) ? -1 : ntohs(a.v4.sin_port);
}

static int keep(int fd, int family, int type) {
	CHECK(fd);
	if (sh->made == MOST)
		return close(fd), -1;
	CHECK(fcntl(fd, F_SETFL, O_NONBLOCK));
	int no = sh->made++;
	sh->r[no] = (struct rec){.family = family, .type = type, .bound = -1, .backlog = -1, .target = -1, .peer = -1, .refs = 1};
	fds[no] = fd;
	return no;
}

static int fresh(void) {
	int family = rnd(2) ? AF_INET : AF_INET6, type = rnd(3) ? SOCK_STREAM : SOCK_DGRAM;
	int no = keep(socket(family, type | (rnd(2) ? SOCK_CLOEXEC : 0), 0), family, type);
	if (no < 0)
		return -1;
	if (type == SOCK_STREAM || rnd(2))
		CHECK(set(fds[no], SOL_SOCKET, SO_REUSEADDR, 1));
	if (type == SOCK_STREAM && rnd(2))
		CHECK(set(fds[no], IPPROTO_TCP, TCP_NODELAY, 1));
	return no;
}

#include "inetoptions.h"

static void binds(int no) {
	struct rec *r = &sh->r[no];
	union addr a;
	if (r->met && !r->own)
		return; // whether its port is its own yet is another thing, see docs/limits.md
	int at = r->family == AF_INET ? (int)rnd(3) : 3 + (int)rnd(3), how = rnd(12);
	int p = how < 6 && me != OUTSIDE ? 10000 + (int)rnd(6) : how < 10 ? 10100 + no : 0;
	const char *text = addresses[at];
	if (how == 10)
		note("freebind", no, set(fds[no], IPPROTO_IP, IP_FREEBIND, 1)), text = r->family == AF_INET ? "198.51.100.7" : "2001:db8::7";
	if (how == 11)
		note("no port", no, set(fds[no], IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)), r->lost = 1;
	if (r->type == SOCK_STREAM && how == 9)
		note("share", no, set(fds[no], SOL_SOCKET, SO_REUSEPORT, 1)), r->shared = 1;
	int v = bind(fds[no], &a.sa, fill(&a, text, p));
	note("bind", no, v);
	if (v == 0 || !r->lost)
		obs("%d is %s", no, own(fds[no], 0));
	if (v == 0)
		r->bound = how == 10 ? -1 : at, r->port = port(fds[no], 0), r->own = p != 0;
}

static void listens(int no) {
	struct rec *r = &sh->r[no];
	int backlog = rnd(4), v;
	if (r->type != SOCK_STREAM)
		return;
	note("listen", no, v = listen(fds[no], backlog));
	if (v)
		return;
	if (r->backlog < 0)
		r->queued = 0, r->hole = rnd(5) == 0;
	r->backlog = backlog, r->port = port(fds[no], 0);
	if (r->bound < 0)
		r->bound = r->family == AF_INET ? 2 : 4;
}

// to finds a socket that can be called.
static int to(int no, int listening) {
	int all[MOST], n = 0;
	for (int i = 0; i < sh->made; i++) {
		struct rec *o = &sh->r[i], *r = &sh->r[no];
		if (!o->refs || o->type != r->type || o->bound < 0 || o->port <= 0 || o->shared || (o->backlog >= 0) != listening)
			continue;
		if ((strchr(calls[o->bound], ':') != NULL) != (r->family == AF_INET6))
			continue;
		if (listening && !o->hole && o->queued > o->backlog)
			continue;
		all[n++] = i;
	}
	return n ? all[rnd(n)] : -1;
}

static void connects(int no) {
	struct rec *r = &sh->r[no];
	union addr a;
	int t = to(no, r->type == SOCK_STREAM);
	socklen_t len = t < 0 || rnd(12) == 0 ? (t = -1, fill(&a, r->family == AF_INET ? "127.0.0.1" : "::1", FREE)) : fill(&a, calls[sh->r[t].bound], sh->r[t].port);
	if (r->unconfirmed || r->waits || r->ended)
		return;
	int v = connect(fds[no], &a.sa, len);
	int e = errno, was = v && errno == EINPROGRESS;
	note("connect", no, v);
	obs("%d calls %d", no, t);
	settle();
	if (r->type == SOCK_DGRAM) {
		if (!v && !r->own)
			r->lost = 1;
		return;
	}
	if (v && !was && e != EISCONN && e != EINVAL && e != EADDRNOTAVAIL)
		r->lost = 1;
	if (!was)
		return;
	r->port = port(fds[no], 0), r->target = t, r->met = 1;
	struct tcp_info info = {0};
	len = sizeof info;
	CHECK(getsockopt(fds[no], IPPROTO_TCP, TCP_INFO, &info, &len));
	if (info.tcpi_state == TCP_SYN_SENT)
		r->waits = 1;
	else if (rnd(3))
		note("again", no, connect(fds[no], &a.sa, sizeof a));
	else
		r->unconfirmed = 1;
	if (t >= 0 && info.tcpi_state == TCP_ESTABLISHED)
		sh->r[t].queued++;
	if (t < 0)
		r->ended = rnd(2);
}

static void accepts(int no) {
	union addr a;
	socklen_t len = sizeof a;
	char text[80];
	struct rec *r = &sh->r[no];
	if (r->hole)
		return;
	int fd = accept4(fds[no], &a.sa, &len, SOCK_CLOEXEC);
	note("accept", no, fd < 0 ? -1 : 0);
	if (fd < 0)
		return;
	obs("%d let in %s", no, name(text, &a, len));
	r->queued--;
	int n = keep(fd, r->family, SOCK_STREAM);
	for (int i = 0; n >= 0 && i < sh->made; i++)
		if (sh->r[i].target == no && sh->r[i].peer < 0 && (sh->r[i].port < 10000 || sh->r[i].port > 10005) && sh->r[i].port == ntohs(a.v4.sin_port))
			sh->r[i].peer = n, sh->r[n].peer = i;
	if (n >= 0)
		sh->r[n].met = 1;
}

#include "inettalk.h"

// step does one thing.
static void step(int late) {
	int all[MOST], n = 0, what = rnd(100);
	for (int i = 0; i < sh->made; i++)
		if (fds[i] >= 0)
			all[n++] = i;
	if (n < 3 || (what < 8 && n < 25 && !late)) {
		int no = fresh();
		if (no >= 0 && rnd(2))
			binds(no);
		if (no >= 0 && rnd(3) == 0)
			listens(no);
		return;
	}
	int no = all[rnd(n)];
	for (int i = 0; i < 4 && sh->r[no].backlog < 0 && what < 30; i++)
		no = all[rnd(n)];
	if (late || (what >= 45 && what < 62))
		sends(no, late);
	else if (what < 17)
		binds(no);
	else if (what == 44) {
		for (int i = 0; i < n && sh->r[no].peer < 0; i++)
			no = all[i];
		floods(no);
	} else if (what < 23)
		listens(no);
	else if (what < 30)
		accepts(no);
	else if (what < 45)
		connects(no);
	else if (what < 75)
		receives(no, 0);
	else if (what < 78)
		shuts(no);
	else if (what < 80)
		passes(no);
	else if (what < 83)
		takes();
	else if (what < 86)
		watches(no);
	else if (what < 88)
		disconnects(no);
	else if (what < 89)
		resets(no);
	else if (what < 97)
		options(no);
	else if (n > 6)
		drop(no);
}

static void show(int after) {
	struct epoll_event e[MOST];
	for (int i = 0; i < sh->made; i++) {
		struct rec *r = &sh->r[i];
		if (fds[i] < 0)
			continue;
		struct tcp_info t = {0};
		socklen_t len = sizeof t;
		int in = -1, fd = fds[i];
		ioctl(fd, SIOCINQ, &in);
		getsockopt(fd, IPPROTO_TCP, TCP_INFO, &t, &len);
		if (t.tcpi_state == TCP_FIN_WAIT1)
			t.tcpi_state = TCP_FIN_WAIT2; // which one it is depends on when the answer comes
		struct pollfd p = {fd, POLLIN | POLLOUT | POLLRDHUP | POLLPRI, 0};
		poll(&p, 1, 0);
		if (r->fuzzy)
			in = 0, p.revents &= ~(POLLIN | POLLOUT);
		if (t.tcpi_state == TCP_CLOSE && get(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT) > 0)
			p.revents &= ~POLLOUT; // see docs/limits.md
		int ports[2] = {r->lost ? 0 : port(fd, 0), port(fd, 1)};
		if (after && r->ports[0] && memcmp(ports, r->ports, sizeof ports))
			obs("%d: ports were %d to %d, are %d to %d", i, r->ports[0], r->ports[1], ports[0], ports[1]);
		memcpy(r->ports, ports, sizeof ports);
		obs("%d: %d: %s, %s to %s, flags %o, state %d, in %d, events %x, mark %d", me, i, r->type == SOCK_STREAM ? "tcp" : "udp", r->lost ? "" : own(fd, 0), own(fd, 1), fcntl(fd, F_GETFL), t.tcpi_state, in, p.revents, r->type == SOCK_STREAM ? sockatmark(fd) : 0);
		if (r->type == SOCK_STREAM && t.tcpi_state != TCP_CLOSE)
			obs("%d: %d: options %x %d %d, queue %d %d", me, i, t.tcpi_options, t.tcpi_snd_wscale, t.tcpi_rcv_wscale, t.tcpi_state == TCP_LISTEN ? t.tcpi_unacked : 0, t.tcpi_state == TCP_LISTEN ? t.tcpi_sacked : 0);
		readall(i);
	}
	int n = epoll_wait(ep, e, MOST, 0);
	for (int i = 0; i < sh->made; i++)
		for (int k = 0; k < n; k++)
			if (e[k].data.u32 == (unsigned)i && !sh->r[i].fuzzy)
				obs("%d: epoll tells %x of %d", me, e[k].events, i);
}

// awaits waits until what a flood has sent is here.
static long awaits(int no) {
	struct rec *r = &sh->r[no];
	if (r->fuzzy && r->peer >= 0 && r->got < sh->r[r->peer].sent)
		poll(&(struct pollfd){fds[no], POLLIN, 0}, 1, 10000);
	return 0;
}

// reads reads all that waits; the errors first.
static void reads(void) {
	while (takes())
		;
	for (int i = 0; i < sh->made; i++) {
		if (fds[i] < 0)
			continue;
		if (sh->r[i].backlog >= 0) {
			sh->r[i].hole = 0;
			for (int made = sh->made; sh->made < MOST && (accepts(i), sh->made > made); made = sh->made)
				;
			continue;
		}
		if (sh->r[i].fuzzy && sh->r[i].refs != 1)
			continue;
		obs("%d: error %d", i, get(fds[i], SOL_SOCKET, SO_ERROR));
		for (int k = 0; k < 100 && receives(i, 2) >= 0; k++)
			;
		long n;
		for (int k = 0; k < 1000 && (n = awaits(i), receives(i, 1)) >= 0 && (n > 0 || sh->r[i].type == SOCK_DGRAM); k++)
			;
	}
}

static void talks(void) {
	for (int i = 0; i < sh->made; i++)
		if (fds[i] >= 0 && !sh->r[i].waits)
			sh->r[i].oob = 1, note("says", i, send(fds[i], "!", 1, MSG_DONTWAIT | MSG_NOSIGNAL)), settle();
}

static void act(int cmd) {
	if (cmd == STEP || cmd == LATE)
		step(cmd == LATE);
	else if (cmd == SHOW)
		show(0);
	else if (cmd == AGAIN)
		show(1);
	else if (cmd == READ)
		reads();
	else if (cmd == TALK)
		talks();
	else if (cmd == CALM)
		for (int i = 0; i < sh->made; i++)
			if (fds[i] >= 0 && sh->r[i].type == SOCK_STREAM)
				calm(i, 4000), settle(); // what is held back may take 3 s, see docs/limits.md
	if (cmd == CLOSE)
		for (int i = 0; i < sh->made; i++)
			if (fds[i] >= 0)
				drop(i);
}

// give gives a task the turn, and waits until it is done.
static void give(int who, int cmd) {
	if (who == 0) {
		act(cmd);
		return;
	}
	sh->cmd = cmd;
	__sync_synchronize();
	sh->turn = who;
	while (sh->turn) {
		if (ctl_exists("error", NULL))
			_exit(97);
		nanosleep(&(struct timespec){0, 20000}, NULL);
	}
	__sync_synchronize();
}

// outside writes down what the task outside of the tree has seen.
static void outside(void) {
	char path[400];
	ctl_write(ctl_path(path, "obs", ctl_name), ctl_buf, ctl_len);
	ctl_len = 0, ctl_gen += !ctl_exists("end", NULL);
}

// heed does what it is told, until the end.
__attribute__((noreturn)) static void heed(int who) {
	for (me = who;;) {
		for (struct stat st; sh->turn != me;) {
			if (me == OUTSIDE && stat(ctl_dir, &st))
				_exit(96); // the test is over
			nanosleep(&(struct timespec){0, 20000}, NULL);
		}
		__sync_synchronize();
		int cmd = sh->cmd;
		tasks = sh->tasks;
		act(cmd);
		if (cmd == SAVE && me == OUTSIDE)
			outside();
		__sync_synchronize();
		sh->turn = 0;
		if (cmd == END)
			_exit(0);
		if (cmd == SAVE && me != OUTSIDE)
			savepoint();
	}
}

static pid_t pids[TASKS];
static int guests; // whether one task is outside

static void spawn(void) {
	char who[20];
	int k = tasks++;
	sh->tasks = tasks;
	sprintf(who, "task%d", k);
	for (int i = 0; i < sh->made; i++)
		sh->r[i].refs += fds[i] >= 0;
	if (k != OUTSIDE)
		ctl_party(who);
	if ((pids[k] = CHECK(fork())) == 0) {
		if (k == OUTSIDE && (CHECK(setsid()), fork()))
			_exit(0);
		ctl_child(who);
		ep = CHECK(epoll_create1(0));
		heed(k);
	}
	if (k == OUTSIDE)
		reap(pids[k]);
}

static void each(int cmd) {
	for (int i = 0; i < tasks; i++)
		if ((i != OUTSIDE || guests) && (i || cmd != SAVE))
			give(i, cmd);
}

// steps does some, each by another task.
static void steps(int n) {
	for (int i = 0; i < n; i++) {
		if (tasks < TASKS && rnd(3 * n) == 0)
			spawn();
		int who = rnd(tasks);
		give(who == OUTSIDE && !guests ? 0 : who, STEP);
	}
}

static void begin(const char *seed) {
	cpu_set_t one;
	CPU_ZERO(&one);
	CPU_SET(0, &one);
	CHECK(sched_setaffinity(0, sizeof one, &one));
	memset(fds, -1, sizeof fds);
	int fd = CHECK(open("shared", O_RDWR | O_CREAT, 0600));
	CHECK(ftruncate(fd, sizeof *sh));
	sh = mmap(NULL, sizeof *sh, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	MUST(sh != MAP_FAILED);
	close(fd);
	sh->state = strtoull(seed, NULL, 10) * 0x9e3779b97f4a7c15 + 1;
	defaults();
	tasks = 1 + !guests;
	if (guests)
		spawn();
	for (int i = 0; i < TASKS; i++)
		CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, mail[i]));
	ep = CHECK(epoll_create1(0));
	spawn();
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	guests = atoi(argv[3]);
	begin(argv[1]);
	do {
		if (ctl_gen) {
			nanosleep(&(struct timespec){0, 5000000}, NULL);
			settle(), each(CALM), each(AGAIN);
		}
		steps(atoi(argv[2]));
		each(SHOW);
		if (rnd(2))
			give(0, LATE);
		each(SAVE);
	} while (savepoint());
	each(CALM), each(READ), each(TALK), each(CALM), each(READ), each(SHOW), each(CLOSE), each(SAVE), each(END);
	savepoint();
	for (int i = OUTSIDE + 1; i < tasks; i++)
		reap(pids[i]);
	return 0;
}
