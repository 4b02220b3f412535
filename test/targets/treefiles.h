// What treerandom.c does with descriptors.
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>

enum { LOW = 3, HIGH = 40, OPEN = 14 };

static int isopen(int fd) { return fcntl(fd, F_GETFD) >= 0; }

// pick is a descriptor that is open, -1: none.
static int pick(void) {
	int all[HIGH], n = 0;
	for (int i = LOW; i < HIGH; i++)
		if (isopen(i))
			all[n++] = i;
	return n ? all[rnd(n)] : -1;
}

static int crowded(void) {
	int n = 0;
	for (int i = LOW; i < HIGH; i++)
		n += isopen(i);
	return n >= OPEN;
}

// path is one of a few names, some of which lead into a directory.
static const char *path(void) {
	static __thread char b[4][300];
	static __thread int at;
	char *p = b[at++ % 4];
	int n = rnd(12);
	if (n < 3)
		sprintf(p, "%s/d%d", ctl_dir, n);
	else if (n < 9)
		sprintf(p, "%s/f%d", ctl_dir, n);
	else
		sprintf(p, "%s/d%d/f%d", ctl_dir, n - 9, n - 9);
	return p;
}

static const char *base(const char *p) { return p + strlen(ctl_dir) + 1; }

static void names(void) {
	const char *a = path(), *b = path();
	switch (rnd(9)) {
	case 0:
	case 1:
		did(unlink(a), "unlink %s", base(a));
		break;
	case 2:
		did(rename(a, b), "rename %s %s", base(a), base(b));
		break;
	case 3:
		did(link(a, b), "link %s %s", base(a), base(b));
		break;
	case 4:
	case 5:
		did(mkdir(a, 0755), "mkdir %s", base(a));
		break;
	case 6:
		did(rmdir(a), "rmdir %s", base(a));
		break;
	case 7:
		did(mkfifo(a, 0600), "mkfifo %s", base(a));
		break;
	default:
		did(symlink(b, a), "symlink %s %s", base(b), base(a));
	}
}

static void open_(void) {
	static const int how[] = {O_RDONLY, O_RDWR, O_RDWR, O_WRONLY};
	static const int more[] = {0, 0, O_APPEND, O_CREAT, O_CREAT, O_CREAT | O_EXCL, O_PATH, O_DIRECTORY, O_CLOEXEC, O_NOFOLLOW, O_TRUNC, O_PATH | O_NOFOLLOW, O_SYNC, O_NOATIME, O_CREAT | O_CLOEXEC};
	const char *p = path();
	int flags = how[rnd(4)] | more[rnd(sizeof more / sizeof *more)] | O_NONBLOCK;
	did(open(p, flags, 0644), "open %s %x", base(p), flags);
}

// a pair of ends, and the like
static void make(void) {
	int p[2], flags;
	sigset_t set;
	switch (rnd(12)) {
	case 0:
	case 1:
		flags = O_NONBLOCK | (rnd(2) ? O_CLOEXEC : 0) | (rnd(4) ? 0 : O_DIRECT);
		did(pipe2(p, flags), "pipe %x", flags);
		break;
	case 2:
		flags = EFD_NONBLOCK | (rnd(2) ? EFD_SEMAPHORE : 0) | (rnd(2) ? EFD_CLOEXEC : 0);
		did(eventfd(rnd(9), flags), "eventfd %x", flags);
		break;
	case 3:
		did(timerfd_create((int[]){CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME}[rnd(3)], TFD_NONBLOCK), "timerfd");
		break;
	case 4:
		sigemptyset(&set);
		for (int i = 0; i < 3; i++)
			sigaddset(&set, (int[]){SIGUSR1, SIGUSR2, SIGURG, SIGRTMIN + 1, SIGIO}[rnd(5)]);
		did(signalfd(-1, &set, SFD_NONBLOCK), "signalfd");
		break;
	case 5:
		did(inotify_init1(IN_NONBLOCK), "inotify");
		break;
	case 6:
	case 7:
		did(epoll_create1(rnd(2) ? EPOLL_CLOEXEC : 0), "epoll");
		break;
	case 8: {
		char b[20];
		sprintf(b, "m%d", rnd(3)), flags = rnd(2) ? MFD_ALLOW_SEALING : 0;
		did(memfd_create(b, flags), "memfd %s %x", b, flags);
		break;
	}
	case 9: {
		struct actor *a = &w->a[rnd(w->n)];
		did(syscall(SYS_pidfd_open, a->pid, 0), "pidfd %s", name(a->pid));
		break;
	}
	case 10:
		did(socketpair(AF_UNIX, (int[]){SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET}[rnd(3)] | SOCK_NONBLOCK, 0, p), "socketpair");
		break;
	default: {
		char b[300];
		sprintf(b, "%s/d%d", ctl_dir, rnd(3));
		did(open(b, O_TMPFILE | O_RDWR | O_NONBLOCK, 0600), "tmpfile");
	}
	}
}

static const int signals[];
static int whom(pid_t *pid);

static void owner(int fd) {
	pid_t pid;
	int i = whom(&pid);
	struct f_owner_ex o = {.type = rnd(3), .pid = pid};
	if (i < 0)
		return;
	if (o.type == F_OWNER_PGRP)
		o.pid = getpgid(pid);
	if (o.type == F_OWNER_TID)
		o.pid = w->a[i].tid;
	if (rnd(3))
		did(fcntl(fd, F_SETOWN_EX, &o), "owner of %d: %d %s", fd, o.type, name(o.pid));
	else
		did(fcntl(fd, F_SETSIG, rnd(2) ? SIGRTMIN + 1 : 0), "signal of %d", fd);
}

static void flags(int fd) {
	int fl, to;
	switch (rnd(8)) {
	case 0:
		did(fcntl(fd, F_SETFD, rnd(2)), "setfd %d", fd);
		break;
	case 1:
		fl = O_NONBLOCK | (rnd(2) ? O_APPEND : 0) | (rnd(4) ? 0 : O_ASYNC) | (rnd(4) ? 0 : O_NOATIME);
		did(fcntl(fd, F_SETFL, fl), "setfl %d %x", fd, fl);
		break;
	case 2:
		did(fcntl(fd, F_SETPIPE_SZ, 4096 << rnd(6)), "pipe size %d", fd);
		break;
	case 3:
		fl = (int[]){F_SEAL_GROW, F_SEAL_SHRINK, F_SEAL_WRITE, F_SEAL_SEAL, F_SEAL_FUTURE_WRITE}[rnd(5)];
		did(fcntl(fd, F_ADD_SEALS, fl), "seal %d %x", fd, fl);
		break;
	case 4:
		owner(fd);
		break;
	case 5:
		to = LOW + rnd(30);
		did(dup3(fd, to, rnd(2) ? O_CLOEXEC : 0), "dup %d %d", fd, to);
		break;
	default:
		did(fcntl(fd, rnd(2) ? F_DUPFD : F_DUPFD_CLOEXEC, LOW + rnd(20)), "dupfd %d", fd);
	}
}

static void lock(int fd) {
	static const int types[] = {F_RDLCK, F_WRLCK, F_UNLCK};
	struct flock l = {.l_type = types[rnd(3)], .l_start = rnd(4) * 10, .l_len = rnd(3) * 10};
	int k = rnd(5), how = (int[]){LOCK_SH, LOCK_EX, LOCK_UN}[rnd(3)];
	if (k < 2)
		did(flock(fd, how | LOCK_NB), "flock %d %d", fd, how);
	else if (k < 3)
		did(fcntl(fd, F_SETLK, &l), "lock %d %d %d+%d", fd, l.l_type, (int)l.l_start, (int)l.l_len);
	else if (k < 4)
		did(fcntl(fd, F_OFD_SETLK, &l), "ofd lock %d %d %d+%d", fd, l.l_type, (int)l.l_start, (int)l.l_len);
	else
		did(fcntl(fd, F_SETLEASE, l.l_type), "lease %d %d", fd, l.l_type);
}

static void event(int fd) {
	int to = pick(), op = (int[]){EPOLL_CTL_ADD, EPOLL_CTL_ADD, EPOLL_CTL_MOD, EPOLL_CTL_DEL}[rnd(4)];
	struct epoll_event ev = {.events = EPOLLIN | (rnd(2) ? EPOLLOUT : 0) | (rnd(6) ? 0 : EPOLLONESHOT), .data.u64 = rnd(1000)};
	did(epoll_ctl(fd, op, to, &ev), "epoll %d %d %d %x %lx", fd, op, to, ev.events, ev.data.u64);
}

static void message(int fd) {
	char control[CMSG_SPACE(sizeof(int))] = "", b[50] = "message";
	struct iovec v = {b, 1 + rnd(40)};
	struct msghdr m = {NULL, 0, &v, 1, NULL, 0, 0};
	int with = rnd(2) ? pick() : -1;
	if (with >= 0) {
		m.msg_control = control, m.msg_controllen = sizeof control;
		struct cmsghdr *c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET, c->cmsg_type = SCM_RIGHTS, c->cmsg_len = CMSG_LEN(sizeof with);
		memcpy(CMSG_DATA(c), &with, sizeof with);
	}
	did(sendmsg(fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL), "send %d with %d", fd, with);
}

static void get(int fd) {
	char b[6000], control[200];
	struct iovec v = {b, 1 + rnd(100)};
	struct msghdr m = {NULL, 0, &v, 1, control, sizeof control, 0};
	int got = -1;
	ssize_t n = recvmsg(fd, &m, MSG_DONTWAIT);
	if (n < 0 && errno == ENOTSOCK) {
		static const int sizes[] = {8, 128, 1, 100, 5000};
		n = read(fd, b, sizes[rnd(5)]);
		did(n, "read %d", fd);
		return;
	}
	for (struct cmsghdr *c = n < 0 ? NULL : CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c))
		if (c->cmsg_type == SCM_RIGHTS)
			memcpy(&got, CMSG_DATA(c), sizeof got);
	did(n, "receive %d, got %d", fd, got);
}

static void put(int fd) {
	uint64_t one[700];
	static const int sizes[] = {8, 8, 1, 100, 5000};
	int n = sizes[rnd(5)];
	for (int i = 0; i < 700; i++)
		one[i] = 1 + rnd(3);
	struct stat st;
	fstat(fd, &st);
	if (S_ISCHR(st.st_mode) || st.st_size > 100000)
		n = 1;
	did(write(fd, one, n), "write %d %d", fd, n);
}

static void timer(int fd) {
	struct itimerspec t = {{rnd(2) * 1000, 0}, {rnd(3) * 100000, 0}};
	did(timerfd_settime(fd, 0, &t, NULL), "timerfd %d %ld %ld", fd, t.it_interval.tv_sec, t.it_value.tv_sec);
}

static void watch(int fd) {
	const char *p = path();
	if (rnd(4))
		did(inotify_add_watch(fd, p, (int[]){IN_UNMOUNT, IN_Q_OVERFLOW}[rnd(1)] | IN_ONLYDIR * rnd(2)), "watch %d %s", fd, base(p));
	else
		did(inotify_rm_watch(fd, 1 + rnd(3)), "unwatch %d", fd);
}

// descriptor does something with a descriptor.
static void descriptor(void) {
	int fd = pick(), what = rnd(100);
	struct stat st;
	if (what < 12)
		names();
	else if (what < 24 && !crowded())
		open_();
	else if (what < 38 && !crowded())
		make();
	else if (fd < 0 || what < 52)
		flags(fd);
	else if (what < 58)
		lock(fd);
	else if (what < 64)
		get(fd);
	else if (what < 72)
		put(fd);
	else if (what < 80)
		did(close(fd), "close %d", fd);
	else if (what < 82)
		did(lseek(fd, rnd(200), rnd(3)), "seek %d", fd);
	else if (what < 84)
		did(fstat(fd, &st) || !S_ISREG(st.st_mode) ? 0 : ftruncate(fd, rnd(9000)), "truncate %d", fd);
	else if (what < 86) {
		const char *p = path();
		did(chdir(p), "chdir %s", base(p));
	} else if (what < 87)
		did(fchdir(fd), "fchdir %d", fd);
	else {
		char b[60], link[60] = "";
		sprintf(b, "/proc/self/fd/%d", fd);
		if (readlink(b, link, sizeof link - 1) < 0 && fd >= 0)
			return;
		if (strstr(link, "[eventpoll]"))
			event(fd);
		else if (strstr(link, "[timerfd]"))
			timer(fd);
		else if (strstr(link, "inotify"))
			watch(fd);
		else if (strstr(link, "socket"))
			message(fd);
		else if (fd >= 0 && !crowded())
			did(fcntl(fd, F_DUPFD, LOW), "another of %d", fd);
	}
}
