// Does random things with unix sockets, which ones argv[1] decides: argv[2]
// steps before every save point. Children that are forked meanwhile do some,
// too, and keep what they have. In the end everything is looked at and read.
#include "unix.h"

static uint64_t state;
static unsigned rnd(unsigned n) {
	state ^= state << 13, state ^= state >> 7, state ^= state << 17;
	return state % n;
}

static struct {
	int fd, type, no;
	int sent; // it may be in a queue
} s[100];
static int ss, made, names;
static char data[60000];

static int keep(int fd, int type) {
	if (fd < 0)
		return -1;
	if (ss == 100)
		return close(fd), -1;
	CHECK(fcntl(fd, F_SETFL, O_NONBLOCK));
	s[ss].fd = fd, s[ss].type = type, s[ss].no = made++, s[ss].sent = 0;
	return ss++;
}

static int type(void) { return (int[]){SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET}[rnd(3)]; }

// name makes the nth name: abstract, or a path.
static socklen_t name(struct sockaddr_un *un, int n) {
	char b[80];
	int len = n % 3 ? sprintf(b, "_glis random %s %d", getenv("SEED"), n) : sprintf(b, "name%d", n) + 1;
	if (n % 3)
		*b = 0;
	return address(un, b, len);
}

// note notes what came of a step.
static void note(const char *what, int i, long r) {
	int e = errno;
	obs("%s %d: %ld %s", what, i < 0 ? i : s[i].no, r, r < 0 ? strerror(e) : "");
}

// message sends something, in all sorts of ways.
static void message(int i) {
	char control[600];
	struct sockaddr_un un;
	static const unsigned sizes[] = {0, 1, 5, 100, 3000, 9000, 50000};
	unsigned size = sizes[rnd(7)], from = rnd(1000), how = rnd(8);
	struct iovec v = {data + from, size};
	struct msghdr m = {NULL, 0, &v, 1, control, 0, 0};
	struct cmsghdr *c = (void *)control;
	memset(control, 0, sizeof control);
	if (how < 2) {
		int fds[3], n = 1 + rnd(3);
		for (int k = 0, o; k < n; k++)
			o = rnd(ss), fds[k] = s[o].fd, s[o].sent = 1;
		c->cmsg_level = SOL_SOCKET, c->cmsg_type = SCM_RIGHTS, c->cmsg_len = CMSG_LEN(n * sizeof *fds);
		memcpy(CMSG_DATA(c), fds, n * sizeof *fds);
		m.msg_controllen += CMSG_SPACE(n * sizeof *fds);
		c = (void *)(control + m.msg_controllen);
	}
	if (how == 1 || how == 2) {
		struct ucred who = {1, 17, 18};
		c->cmsg_level = SOL_SOCKET, c->cmsg_type = SCM_CREDENTIALS, c->cmsg_len = CMSG_LEN(sizeof who);
		memcpy(CMSG_DATA(c), &who, sizeof who);
		m.msg_controllen += CMSG_SPACE(sizeof who);
	}
	if (!m.msg_controllen)
		m.msg_control = NULL;
	if (s[i].type == SOCK_DGRAM && names && rnd(2))
		m.msg_name = &un, m.msg_namelen = name(&un, rnd(names));
	note(how == 3 ? "urgent" : "send", i, sendmsg(s[i].fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL | (how == 3 ? MSG_OOB : 0)));
}

// receive reads a little, so that something stays.
static void receive(int i) {
	char b[4000], control[600];
	struct iovec v = {b, 1 + rnd(4000)};
	struct msghdr m = {NULL, 0, &v, 1, control, sizeof control, 0};
	int flags = (int[]){0, 0, 0, MSG_PEEK, MSG_OOB}[rnd(5)];
	long n = recvmsg(s[i].fd, &m, MSG_DONTWAIT | flags);
	note("receive", i, n);
	for (struct cmsghdr *c = n < 0 ? NULL : CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c))
		for (int k = 0, fd; c->cmsg_type == SCM_RIGHTS && k < (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof fd); k++) {
			memcpy(&fd, CMSG_DATA(c) + k * sizeof fd, sizeof fd);
			if (flags & MSG_PEEK)
				close(fd);
			else
				keep(fd, option(fd, SO_TYPE));
		}
}

// drop closes a socket. When the kernel notices that sockets are in each
// other's queues only, and closes them, nobody knows: none comes to that.
static void drop(int i) {
	if (s[i].sent)
		return;
	note("close", i, close(s[i].fd));
	s[i] = s[--ss];
}

static void option_of(int i) {
	static const int opts[] = {SO_PASSCRED, SO_OOBINLINE, SO_PEEK_OFF, SO_SNDBUF, 76 /* SO_PASSPIDFD */};
	int k = rnd(4), v = k == 2 ? (int)rnd(40) - 1 : k == 3 ? 3000 + (int)rnd(100000) : (int)rnd(2);
	note("option", i, setsockopt(s[i].fd, SOL_SOCKET, opts[k], &v, sizeof v));
}

// step does one thing.
static void step(void) {
	struct sockaddr_un un;
	socklen_t len;
	int p[2], t, fd, what = rnd(100), i = ss ? (int)rnd(ss) : -1;
	if (ss < 4 || (what < 10 && ss < 40)) {
		if (socketpair(AF_UNIX, t = type(), 0, p) == 0)
			keep(p[0], t), keep(p[1], t);
	} else if (what < 20 && ss < 40) {
		if (keep(fd = CHECK(socket(AF_UNIX, t = type(), 0)), t) < 0)
			return;
		if (rnd(4)) {
			len = name(&un, names++);
			note("bind", ss - 1, bind(fd, (void *)&un, len));
			if (t != SOCK_DGRAM && rnd(5))
				note("listen", ss - 1, listen(fd, rnd(5)));
		}
	} else if (what < 35) {
		if (!names)
			return;
		len = name(&un, rnd(names));
		note("connect", i, connect(s[i].fd, (void *)&un, len));
	} else if (what < 37)
		note("listen", i, listen(s[i].fd, rnd(5)));
	else if (what < 42) {
		fd = accept(s[i].fd, NULL, NULL);
		note("accept", i, fd < 0 ? -1 : 0), keep(fd, s[i].type);
	} else if (what < 75)
		message(i);
	else if (what < 86)
		receive(i);
	else if (what < 90)
		note("shutdown", i, shutdown(s[i].fd, rnd(3)));
	else if (what < 94)
		option_of(i);
	else if (what < 95 && s[i].type == SOCK_DGRAM) {
		un.sun_family = AF_UNSPEC;
		note("disconnect", i, connect(s[i].fd, (void *)&un, sizeof un.sun_family));
	} else if (ss > 4)
		drop(i);
}

static void show(void) {
	char n[30];
	anew = 1;
	for (int i = 0; i < ss; i++)
		sprintf(n, "socket %d", s[i].no), look(n, s[i].fd), connected(n, s[i].fd);
}

// finish reads everything, also from what is accepted and received meanwhile.
static void finish(void) {
	static char n[100][30];
	for (int i = 0; i < ss; i++)
		sprintf(n[i], "socket %d", s[i].no), add(n[i], s[i].fd);
	for (int i = 0; i < sks; i++) {
		if (!option(sk[i].fd, SO_ACCEPTCONN)) {
			drain(sk[i].name, sk[i].fd);
			continue;
		}
		for (int fd; sks < 1900 && (fd = accept(sk[i].fd, NULL, NULL)) >= 0;)
			CHECK(fcntl(fd, F_SETFL, O_NONBLOCK)), look("accepted", fd), add("accepted", fd);
		obs("%s: no more", sk[i].name);
	}
	for (int i = 0; i < sks; i++)
		obs("%s: says %d %s", sk[i].name, (int)send(sk[i].fd, "!", 1, MSG_DONTWAIT | MSG_NOSIGNAL), strerror(errno));
}

// turn waits until it is ones turn to finish: nobody else reads meanwhile.
static void turn(int n) {
	char path[40];
	sprintf(path, "turn%d", n);
	for (struct stat st; stat(path, &st);)
		nanosleep(&(struct timespec){0, 1000000}, NULL);
}

static void next(int n) {
	char path[40];
	sprintf(path, "turn%d", n);
	CHECK(mknod(path, S_IFREG | 0666, 0));
}

int main(int argc, char **argv) {
	int steps = atoi(argv[2]), children = 0;
	pid_t pids[5];
	ctl_init(argc, argv);
	setenv("SEED", argv[1], 1);
	state = strtoull(argv[1], NULL, 10) * 0x9e3779b97f4a7c15 + 1;
	for (int i = 0; i < (int)sizeof data; i++)
		data[i] = i * 7 + i / 256;
	do {
		for (int i = 0; i < steps; i++) {
			step();
			if (rnd(2 * steps) || children == 3)
				continue;
			char who[20];
			sprintf(who, "child%d", ++children);
			ctl_party(who);
			if ((pids[children - 1] = CHECK(fork())) == 0) {
				ctl_child(who), state += children;
				CHECK(setresgid(-1, 100 + children, -1)), CHECK(setresuid(-1, 200 + children, -1));
				for (int k = rnd(steps); k > 0; k--)
					step();
				CHECK(setresuid(-1, 0, -1)), CHECK(setresgid(-1, 0, -1));
				next(10 + children);
				do
					turn(1000 + ctl_gen), show();
				while (savepoint());
				turn(children), finish(), next(100 + children), turn(200), savepoint();
				_exit(0);
			}
			known[knowns++] = pids[children - 1];
			turn(10 + children), made += 1000;
		}
		next(1000 + ctl_gen), show();
	} while (savepoint());
	for (int i = 1; i <= children; i++)
		next(i), turn(100 + i);
	finish(), next(200);
	savepoint();
	for (int i = 0; i < children; i++)
		reap(pids[i]);
	return 0;
}
