// Connections that wait to be accepted, with files that are in no process but are watched by
// epoll files, in a process and in messages, or whose signals go to somebody (F_SETOWN,
// F_SETSIG).
#include "unix.h"
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>

static int fds[40], n;

static int keep(int fd) { return fds[n++] = CHECK(fd); }

// watch has an epoll file watch a file under a number.
static void watch(int e, int fd, int as, uint32_t events, uint64_t data) {
	struct epoll_event x = {events, {.u64 = data}};
	CHECK(dup2(fd, as)), CHECK(epoll_ctl(e, EPOLL_CTL_ADD, as, &x)), CHECK(close(as));
}

static int by_data(const void *a, const void *b) {
	const struct epoll_event *x = a, *y = b;
	return x->data.u64 < y->data.u64 ? -1 : x->data.u64 > y->data.u64;
}

static void ready(const char *what, int e) {
	struct epoll_event x[20];
	int k = CHECK(epoll_wait(e, x, 20, 0));
	qsort(x, k, sizeof *x, by_data);
	obs("%s: %d are ready", what, k);
	for (int i = 0; i < k; i++)
		obs("%s: %llx events %x", what, (unsigned long long)x[i].data.u64, x[i].events);
}

// owner notes whose the signals of a file are.
static void owner(int i, int fd) {
	struct f_owner_ex who = {-1, -1};
	uid_t ids[2] = {-1, -1};
	CHECK(fcntl(fd, F_GETOWN_EX, &who)), CHECK(fcntl(fd, 17 /* F_GETOWNER_UIDS */, ids));
	obs("%d: signal %d to %s of sort %d, by %d %d, flags %o", i, fcntl(fd, F_GETSIG), process(who.pid), who.pid ? who.type : 0, who.pid ? (int)ids[0] : 0, who.pid ? (int)ids[1] : 0, fcntl(fd, F_GETFL));
}

static void own(int fd, int sort, pid_t pid, int sig, int flags) {
	CHECK(fcntl(fd, F_SETOWN_EX, &((struct f_owner_ex){sort, pid})));
	if (sig)
		CHECK(fcntl(fd, F_SETSIG, sig));
	CHECK(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | flags));
}

static int loopback(int type, struct sockaddr_in *at) {
	socklen_t len = sizeof *at;
	int s = CHECK(socket(AF_INET, type, 0));
	*at = (struct sockaddr_in){AF_INET, 0, {htonl(INADDR_LOOPBACK)}, {0}};
	CHECK(bind(s, (void *)at, len)), CHECK(getsockname(s, (void *)at, &len));
	return s;
}

// got waits for a signal that tells of I/O.
static void got(const char *what, int sig) {
	sigset_t set;
	sigemptyset(&set), sigaddset(&set, sig);
	siginfo_t info;
	struct timespec most = {60, 0};
	CHECK(sigtimedwait(&set, &info, &most));
	obs("%s: signal %d", what, info.si_signo);
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	sigset_t set;
	sigemptyset(&set), sigaddset(&set, SIGIO), sigaddset(&set, SIGUSR1), sigaddset(&set, SIGRTMIN + 3), CHECK(sigprocmask(SIG_BLOCK, &set, NULL));
	int l = add("door", listening(SOCK_STREAM, NAME("door"))), c = add("client", client(SOCK_STREAM, NAME("door"))), e = CHECK(epoll_create1(0)), p[2], pipes[4], mine = CHECK(eventfd(0, EFD_NONBLOCK));
	struct sockaddr_in udp, tcp;
	// 0, 1: epoll files that only the message has, the first of which watches the second.
	int outer = keep(epoll_create1(EPOLL_CLOEXEC)), inner = keep(epoll_create1(0));
	// 2 to 4: counters, watched under one number; 5, 6: sockets; 7: one of UDP, 8: a listener;
	// 9: a timer, 10, 11: a pipe.
	for (int i = 0; i < 3; i++)
		keep(eventfd(i == 1, EFD_NONBLOCK));
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, p)), keep(p[0]), add("peer", p[1]);
	keep(bound(SOCK_DGRAM, NAME("datagrams"))), keep(loopback(SOCK_DGRAM, &udp)), CHECK(listen(keep(loopback(SOCK_STREAM, &tcp)), 5));
	keep(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK));
	CHECK(pipe2(pipes, O_NONBLOCK)), keep(pipes[0]), keep(pipes[1]), CHECK(write(pipes[1], "abc", 3));
	for (int i = 0; i < 3; i++)
		watch(e, fds[2 + i], 70, EPOLLIN, 0x70 + i);
	for (int i = 0; i < 3; i++)
		watch(inner, fds[4 - i], 71, EPOLLIN | (i == 2 ? EPOLLOUT : 0), 0x100 + i);
	watch(e, fds[3], 80, EPOLLIN | EPOLLONESHOT, 0x80), watch(e, fds[5], 70, EPOLLIN | EPOLLOUT, 0x75), watch(e, fds[6], 70, EPOLLIN, 0x76), watch(e, fds[7], fds[7] + 40, EPOLLIN | EPOLLERR, 0xffffffff00000077);
	watch(e, fds[8], 70, EPOLLIN, 0x78), watch(e, fds[9], 70, EPOLLIN, 0x79), watch(e, fds[10], 72, EPOLLIN, 0x7a), watch(e, fds[11], 72, EPOLLOUT, 0x7b), watch(e, mine, 73, EPOLLIN, 0x7c), watch(e, outer, 74, EPOLLIN, 0x7d);
	watch(inner, fds[5], 71, EPOLLIN, 0x105), watch(inner, fds[10], 71, EPOLLIN, 0x10a), watch(inner, mine, 71, EPOLLIN, 0x10c), watch(outer, inner, 71, EPOLLIN, 0x200);
	// 12: a pipe's end that asks for a signal, 13: a socket, 14: one of UDP that another user
	// has asked for, 15: for a group; 16: a signal alone; 17: one that has ended.
	int owned[2], half[2];
	CHECK(pipe2(owned, O_NONBLOCK)), own(keep(owned[0]), F_OWNER_PID, getpid(), SIGRTMIN + 3, O_ASYNC);
	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, half)), own(keep(half[0]), F_OWNER_TID, getpid(), 0, O_ASYNC), add("half", half[1]);
	int u = keep(loopback(SOCK_DGRAM, &udp));
	CHECK(setresuid(1234, 0, 0)), own(u, F_OWNER_PID, getpid(), SIGUSR1, O_ASYNC), CHECK(setresuid(0, 0, 0));
	pid_t group = getpgrp();
	known[knowns++] = group;
	own(keep(eventfd(0, 0)), F_OWNER_PID, getpid(), SIGUSR1, 0), CHECK(fcntl(keep(open("file", O_RDWR | O_CREAT, 0600)), F_SETSIG, SIGUSR1));
	pid_t gone = CHECK(fork());
	if (!gone)
		pause();
	own(keep(eventfd(0, 0)), F_OWNER_PID, gone, 0, 0);
	CHECK(kill(gone, SIGKILL)), CHECK(waitpid(gone, NULL, 0));
	with(c, "files", 5, fds, n, NULL);
	for (int i = 0; i < n; i++)
		CHECK(close(fds[i]));
	CHECK(close(owned[1]));
	ready("before", e);
	do
		look_all(), ready("waiting", e);
	while (savepoint());

	char data[20], control[CMSG_SPACE(sizeof fds)];
	struct iovec v = {data, sizeof data};
	struct msghdr h = {NULL, 0, &v, 1, control, sizeof control, 0};
	int s = CHECK(accept(l, NULL, NULL));
	MUST(CHECK(recvmsg(s, &h, 0)) == 5 && CMSG_FIRSTHDR(&h)->cmsg_len == CMSG_LEN(n * sizeof(int)));
	memcpy(fds, CMSG_DATA(CMSG_FIRSTHDR(&h)), n * sizeof(int));
	outer = fds[0], inner = fds[1];
	for (int i = 0; i < n; i++)
		owner(i, fds[i]);
	ready("outer", outer), ready("inner", inner), ready("held", e);
	uint64_t one = 1;
	for (int i = 0; i < 3; i++) {
		CHECK(write(fds[2 + i], &one, sizeof one));
		ready("held", e), ready("inner", inner);
	}
	CHECK(read(fds[10], data, 3)), ready("inner", inner), CHECK(write(p[1], "x", 1)), ready("inner", inner), CHECK(write(mine, &one, sizeof one)), ready("inner", inner);
	struct sockaddr_un un;
	socklen_t len = address(&un, NAME("datagrams"));
	CHECK(sendto(CHECK(socket(AF_UNIX, SOCK_DGRAM, 0)), "d", 1, 0, (void *)&un, len));
	CHECK(timerfd_settime(fds[9], 0, &((struct itimerspec){{0, 0}, {0, 1}}), NULL)), CHECK(poll(&(struct pollfd){fds[9], POLLIN, 0}, 1, -1));
	CHECK(connect(CHECK(socket(AF_INET, SOCK_STREAM, 0)), (void *)&tcp, sizeof tcp));
	CHECK(poll(&(struct pollfd){fds[8], POLLIN, 0}, 1, -1));
	ready("held", e), ready("outer", outer);
	// Each is told by its signal, once it is asked for anew by the descriptor that it is now.
	CHECK(write(half[1], "!", 1)), got("socket", SIGIO);
	CHECK(sendto(CHECK(socket(AF_INET, SOCK_DGRAM, 0)), "u", 1, 0, (void *)&udp, sizeof udp)), CHECK(poll(&(struct pollfd){fds[14], POLLIN, 0}, 1, -1)), got("UDP", SIGUSR1);
	savepoint();
	return 0;
}
