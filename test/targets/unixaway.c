// A connection that waits to be accepted, with files that are in no process and have no
// data: timers, pidfds, epoll files that watch what this process has.
#include "unix.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>

static int fds[32], n;

static int keep(int fd) { return fds[n++] = CHECK(fd); }

// timer makes one; at is in seconds, 0: off, and 1 ns if it has expired.
static int timer(int clock, int flags, time_t at, time_t every, int fd_flags) {
	int fd = CHECK(timerfd_create(clock, fd_flags));
	struct itimerspec t = {{every, 5}, {at, at == 0}};
	if (flags & TFD_TIMER_ABSTIME) {
		struct timespec now;
		CHECK(clock_gettime(clock, &now)), t.it_value.tv_sec += now.tv_sec;
	}
	if (!every)
		t.it_interval.tv_nsec = 0;
	CHECK(timerfd_settime(fd, flags, &t, NULL));
	return fd;
}

// look_timer shows what doesn't pass.
static void look_timer(int i, int fd) {
	struct itimerspec t;
	uint64_t ticks = 0;
	CHECK(fcntl(fd, F_SETFL, O_NONBLOCK));
	ssize_t r = read(fd, &ticks, sizeof ticks);
	int e = r < 0 ? errno : 0;
	CHECK(timerfd_gettime(fd, &t));
	obs("%d: %d %llu, every %ld.%09ld, left %d", i, e, (unsigned long long)ticks, (long)t.it_interval.tv_sec, t.it_interval.tv_nsec, t.it_value.tv_sec > 100000 && t.it_value.tv_sec <= 200000 ? 1 : t.it_value.tv_sec || t.it_value.tv_nsec ? 2 : 0);
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	int l = add("door", listening(SOCK_STREAM, NAME("door"))), c = add("client", client(SOCK_STREAM, NAME("door"))), p[2], wait[2], told[2];
	char none;
	CHECK(pipe(wait)), CHECK(pipe(told));
	pid_t child = CHECK(fork());
	if (!child) {
		close(wait[1]), close(told[0]), close(told[1]), read(wait[0], &none, 1), _exit(7);
	}
	knowns = 1, known[0] = child;
	close(wait[0]), close(told[1]);
	MUST(CHECK(read(told[0], &none, 1)) == 0); // the child has only what it keeps
	close(told[0]);
	// 0-8: timers, of which three have expired, one of these twice as long ago as its interval.
	keep(timer(CLOCK_MONOTONIC, 0, 150000, 0, 0)), keep(timer(CLOCK_REALTIME, 0, 150000, 7, TFD_NONBLOCK)), keep(timer(CLOCK_BOOTTIME, TFD_TIMER_ABSTIME, 150000, 0, 0));
	keep(timer(CLOCK_REALTIME, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, 150000, 100, 0));
	keep(CHECK(timerfd_create(CLOCK_MONOTONIC, 0)));
	int once = keep(timer(CLOCK_MONOTONIC, 0, 0, 0, 0)), every = keep(timer(CLOCK_MONOTONIC, 0, 0, 150000, 0));
	CHECK(poll(&(struct pollfd){once, POLLIN, 0}, 1, -1)), CHECK(poll(&(struct pollfd){every, POLLIN, 0}, 1, -1));
	uint64_t ticks;
	int spent = keep(timer(CLOCK_BOOTTIME, 0, 0, 0, 0));
	CHECK(read(spent, &ticks, sizeof ticks));
	int late = keep(timer(CLOCK_REALTIME, TFD_TIMER_ABSTIME, -300001, 150000, 0));
	CHECK(poll(&(struct pollfd){late, POLLIN, 0}, 1, -1));
	// 9-11: this process, and a child, twice.
	keep(syscall(SYS_pidfd_open, getpid(), 0)), keep(syscall(SYS_pidfd_open, child, O_NONBLOCK)), keep(syscall(SYS_pidfd_open, child, 0));
	// 12: an epoll file, 13: one of nothing.
	CHECK(pipe(p));
	int ev = CHECK(eventfd(0, 0)), ep = keep(CHECK(epoll_create1(0)));
	keep(CHECK(epoll_create1(EPOLL_CLOEXEC)));
	struct epoll_event e = {EPOLLIN | EPOLLET, {.u64 = 0x123456789abcdefULL}};
	CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &e)), e.events = EPOLLOUT | EPOLLONESHOT, e.data.u64++, CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, p[1], &e));
	e.events = EPOLLIN, e.data.u64++, CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, ev, &e)), e.data.u64++, CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, c, &e));
	with(c, "files", 5, fds, n, NULL);
	for (int i = 0; i < n; i++)
		CHECK(close(fds[i]));
	do
		look_all();
	while (savepoint());

	int s = CHECK(accept(l, NULL, NULL)), got[32];
	char data[20], control[CMSG_SPACE(sizeof got)];
	struct iovec v = {data, sizeof data};
	struct msghdr h = {NULL, 0, &v, 1, control, sizeof control, 0};
	MUST(CHECK(recvmsg(s, &h, 0)) == 5 && CMSG_FIRSTHDR(&h)->cmsg_len == CMSG_LEN(n * sizeof(int)));
	memcpy(got, CMSG_DATA(CMSG_FIRSTHDR(&h)), n * sizeof(int));
	for (int i = 0; i < n; i++)
		obs("%d: flags %o", i, fcntl(got[i], F_GETFL));
	for (int i = 0; i < 9; i++)
		look_timer(i, got[i]);
	CHECK(write(p[1], "x", 1)), CHECK(eventfd_write(ev, 1));
	struct epoll_event all[8];
	int ready = CHECK(epoll_wait(got[12], all, 8, 0)), sum = 0;
	for (int i = 0; i < ready; i++)
		sum += all[i].data.u64 - 0x123456789abcdefULL + 1, obs("%x", all[i].events);
	obs("%d of sum %d, then %d", ready, sum, CHECK(epoll_wait(got[12], all, 8, 0)));
	obs("none %d", CHECK(epoll_wait(got[13], all, 8, 0))), CHECK(epoll_ctl(got[12], EPOLL_CTL_DEL, ev, NULL));
	close(p[0]), close(ev), obs("member %d", CHECK(epoll_wait(got[12], all, 8, 0)));
	obs("alive %d %d", poll((struct pollfd[]){{got[9], POLLIN, 0}, {got[10], POLLIN, 0}}, 2, 0), (int)syscall(SYS_pidfd_send_signal, got[9], 0, NULL, 0));
	close(wait[1]), CHECK(poll(&(struct pollfd){got[11], POLLIN, 0}, 1, -1));
	siginfo_t info;
	CHECK(waitid(P_PIDFD, got[10], &info, WEXITED | __WNOTHREAD)), obs("child %d", info.si_status);
	savepoint();
	return 0;
}
