// Calls the kernel restarts by a restart block (poll, nanosleep, a futex with
// a timeout): a program that was only stopped never sees EINTR from them, so
// it should not when it was saved. Nor from such without a timeout that the kernel
// ends at any stop (epoll_wait).
#include "ctl.h"
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>

static int p[2], ep;
static uint32_t word;
static volatile long res[6];

static void *do_poll(void *a) { res[0] = poll(&(struct pollfd){p[0], POLLIN}, 1, -1) < 0 ? errno : 0; return a; }
static void *do_polltime(void *a) { res[1] = poll(&(struct pollfd){p[0], POLLIN}, 1, 3600000) < 0 ? errno : 0; return a; }
static void *do_sleep(void *a) { res[2] = nanosleep(&(struct timespec){2}, NULL) ? errno : 0; return a; }
static void *do_futex(void *a) {
	res[3] = syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &(struct timespec){3600}, NULL, 0) ? errno : 0;
	return a;
}
static void *do_epoll(void *a) { res[4] = epoll_wait(ep, &(struct epoll_event){0}, 1, -1) < 0 ? errno : 0; return a; }
static void *do_epolltoo(void *a) { res[5] = epoll_wait(ep, &(struct epoll_event){0}, 1, -1) < 0 ? errno : 0; return a; }

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	CHECK(pipe(p));
	ep = CHECK(epoll_create1(0));
	CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &(struct epoll_event){EPOLLIN, {0}}));
	pthread_t th[6];
	void *(*f[])(void *) = {do_poll, do_polltime, do_sleep, do_futex, do_epoll, do_epolltoo};
	for (int i = 0; i < 6; i++)
		OK(pthread_create(&th[i], NULL, f[i], NULL));
	ctl_asleep();
	do
		obs("waiting");
	while (savepoint());
	CHECK(write(p[1], "x", 1));
	word = 1;
	syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 100, NULL, NULL, 0);
	const char *name[] = {"poll", "poll with time", "nanosleep", "futex with time", "epoll_wait", "epoll_wait too"};
	for (int i = 0; i < 6; i++) {
		OK(pthread_join(th[i], NULL));
		obs("%s: %s", name[i], res[i] ? strerror(res[i]) : "ok");
	}
	savepoint();
	return 0;
}
