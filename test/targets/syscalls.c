// Threads that are inside a system call while the process is saved. Calls
// that every program has to repeat on EINTR (signal(7): those that SIGSTOP
// interrupts, too) are repeated; the others must not notice.
#include "ctl.h"
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/un.h>

static int rp[2], sp[2], pp[2], ev, ep, lst, full[2];
static uint32_t word;
static pid_t child, other;
#define AGAIN(x) ({ long r_; do r_ = (x); while (r_ == -1 && errno == EINTR); r_; })

static long do_read(void) { char c[8]; return read(rp[0], c, 8); }
static long do_recv(void) { char c[8]; return recv(sp[0], c, 8, 0); }
static long do_write(void) { char c[4096] = ""; return write(full[1], c, sizeof c); }
static long do_poll(void) { return AGAIN(poll(&(struct pollfd){pp[0], POLLIN}, 1, -1)); }
static long do_ppoll(void) { return ppoll(&(struct pollfd){pp[0], POLLIN}, 1, NULL, NULL); }
static long do_polltime(void) { return AGAIN(poll(&(struct pollfd){pp[0], POLLIN}, 1, 3600000)); }
static long do_epoll(void) { struct epoll_event e; return AGAIN(epoll_wait(ep, &e, 1, -1)); }
static long do_futex(void) { return syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0); }
static long do_futextime(void) {
	return AGAIN(syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &(struct timespec){3600}, NULL, 0));
}
static long do_accept(void) { int fd = accept(lst, NULL, NULL); return fd >= 0 ? close(fd) : -1; }
static long do_select(void) {
	fd_set s;
	FD_ZERO(&s);
	FD_SET(pp[0], &s);
	return select(pp[0] + 1, &s, NULL, NULL, &(struct timeval){3600});
}
static long do_sigwait(void) {
	sigset_t s;
	sigemptyset(&s);
	sigaddset(&s, SIGUSR1);
	return AGAIN(sigtimedwait(&s, NULL, NULL));
}
static long do_wait4(void) { return waitpid(child, NULL, 0) == child ? 0 : -1; }
static long do_waitid(void) { siginfo_t si; return waitid(P_PID, other, &si, WEXITED | WNOWAIT); }

// Sleeps end at the same time natively and restored, or later: never early.
static long slept(struct timespec a, long ms) {
	struct timespec b;
	clock_gettime(CLOCK_MONOTONIC, &b);
	return (b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000 >= ms ? 0 : 1;
}
static long do_nanosleep(void) {
	struct timespec a, left = {1, 500000000};
	clock_gettime(CLOCK_MONOTONIC, &a);
	long r = AGAIN(nanosleep(&left, &left));
	return r ? r : slept(a, 1500);
}
static long do_abstime(void) {
	struct timespec a, b;
	clock_gettime(CLOCK_MONOTONIC, &a);
	b = (struct timespec){a.tv_sec + 2, a.tv_nsec};
	int e = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &b, NULL);
	return e ? -(errno = e) : slept(a, 2000);
}

static struct call { const char *name; long (*f)(void); pthread_t th; long ret; int err; } calls[] = {
#define C(n) {#n, do_##n}
	C(read), C(recv), C(write), C(poll), C(ppoll), C(polltime), C(epoll), C(futex), C(futextime), C(accept),
	C(select), C(sigwait), C(wait4), C(waitid), C(nanosleep), C(abstime)};
#define N (int)(sizeof calls / sizeof *calls)

static void *body(void *arg) {
	struct call *c = arg;
	c->ret = c->f();
	c->err = c->ret == -1 ? errno : 0;
	return NULL;
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	sigset_t s;
	sigemptyset(&s);
	sigaddset(&s, SIGUSR1);
	OK(pthread_sigmask(SIG_BLOCK, &s, NULL));
	CHECK(pipe(rp)), CHECK(pipe(pp)), CHECK(pipe(full)), CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, sp));
	CHECK(ep = epoll_create1(0)), CHECK(ev = eventfd(0, 0));
	CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, ev, &(struct epoll_event){EPOLLIN}));
	struct sockaddr_un un = {AF_UNIX};
	snprintf(un.sun_path, sizeof un.sun_path, "accept.sock");
	CHECK(lst = socket(AF_UNIX, SOCK_STREAM, 0));
	CHECK(bind(lst, (void *)&un, sizeof un)), CHECK(listen(lst, 5));
	CHECK(fcntl(full[1], F_SETPIPE_SZ, 4096));
	char page[4096] = "";
	CHECK(write(full[1], page, sizeof page));
	if (!(child = CHECK(fork())) || !(other = CHECK(fork()))) {
		read(pp[0], page, 1);
		_exit(0);
	}
	for (int i = 0; i < N; i++)
		OK(pthread_create(&calls[i].th, NULL, body, &calls[i]));
	ctl_asleep();
	do
		obs("waiting");
	while (savepoint());
	CHECK(write(rp[1], "x", 1)), CHECK(write(sp[1], "xyz", 3));
	CHECK(write(ev, &(uint64_t){1}, 8)), CHECK(read(full[0], page, sizeof page));
	word = 1;
	syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 100, NULL, NULL, 0);
	CHECK(kill(getpid(), SIGUSR1));
	int c = CHECK(socket(AF_UNIX, SOCK_STREAM, 0));
	CHECK(connect(c, (void *)&un, sizeof un));
	CHECK(write(pp[1], "xxx", 3)); // the children take one each, the polls see the other
	for (int i = 0; i < N; i++) {
		OK(pthread_join(calls[i].th, NULL));
		obs("%s: %ld %s", calls[i].name, calls[i].ret, calls[i].err ? strerror(calls[i].err) : "");
	}
	savepoint();
	return 0;
}
