// Calls the kernel restarts by a restart block (poll, nanosleep, a futex with
// a timeout): a program that was only stopped never sees EINTR from them, so
// it should not when it was saved. Nor from such without a timeout that the kernel
// ends at any stop (epoll_wait).
// With "before" they were interrupted before, so that the kernel says restart_syscall(2)
// only, and the code of syscall(3) doesn't say more.
#include "ctl.h"
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>

static int p[2], ep;
static uint32_t word, all, one = 1;
static volatile long res[8];

static void *do_poll(void *a) { res[0] = poll(&(struct pollfd){p[0], POLLIN}, 1, -1) < 0 ? errno : 0; return a; }
static void *do_polltime(void *a) { res[1] = poll(&(struct pollfd){p[0], POLLIN}, 1, 3600000) < 0 ? errno : 0; return a; }
static void *do_sleep(void *a) { res[2] = nanosleep(&(struct timespec){2}, NULL) ? errno : 0; return a; }
static void *do_futex(void *a) {
	res[3] = syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &(struct timespec){3600}, NULL, 0) ? errno : 0;
	return a;
}
static void *do_futexall(void *a) { // to its arguments it could be a nanosleep
	res[4] = syscall(SYS_futex, &all, FUTEX_WAIT, 0, &(struct timespec){3600}, NULL, 0) ? errno : 0;
	return a;
}
static void *do_futexone(void *a) { // or a poll
	res[5] = syscall(SYS_futex, &one, FUTEX_WAIT_PRIVATE, 1, &(struct timespec){3600}, NULL, 0) ? errno : 0;
	return a;
}
static void *do_epoll(void *a) { res[6] = epoll_wait(ep, &(struct epoll_event){0}, 1, -1) < 0 ? errno : 0; return a; }
static void *do_epolltoo(void *a) { res[7] = epoll_wait(ep, &(struct epoll_event){0}, 1, -1) < 0 ? errno : 0; return a; }

// again tells whether a thread waits in a call that it was made to enter again.
static int again(const char *tid) {
	char path[300], text[256];
	snprintf(path, sizeof path, "/proc/self/task/%s/syscall", tid);
	int fd = CHECK(open(path, O_RDONLY | O_CLOEXEC));
	text[CHECK(read(fd, text, sizeof text - 1))] = 0;
	close(fd);
	return atoi(text) == SYS_restart_syscall;
}

// interrupt stops the process, and has it go on until all others wait once more.
static void interrupt(void) {
	ctl_interrupt();
	for (int others = 1; others; usleep(1000)) {
		others = 0;
		DIR *d = opendir("/proc/self/task");
		for (struct dirent *e; (e = readdir(d));)
			others += *e->d_name != '.' && atoi(e->d_name) != gettid() && !again(e->d_name);
		closedir(d);
	}
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	CHECK(pipe(p));
	ep = CHECK(epoll_create1(0));
	CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &(struct epoll_event){EPOLLIN, {0}}));
	int before = argc > 1 && !strcmp(argv[1], "before"), n = before ? 6 : 8; // epoll_wait ends then
	pthread_t th[8];
	void *(*f[])(void *) = {do_poll, do_polltime, do_sleep, do_futex, do_futexall, do_futexone, do_epoll, do_epolltoo};
	for (int i = 0; i < n; i++)
		OK(pthread_create(&th[i], NULL, f[i], NULL));
	ctl_asleep();
	if (before)
		interrupt();
	do
		obs("waiting");
	while (savepoint());
	ctl_asleep(); // else a futex is another one when its wait is made again
	CHECK(write(p[1], "x", 1));
	word = 1;
	syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 100, NULL, NULL, 0);
	all = 1, one = 2;
	syscall(SYS_futex, &all, FUTEX_WAKE, 100, NULL, NULL, 0);
	syscall(SYS_futex, &one, FUTEX_WAKE_PRIVATE, 100, NULL, NULL, 0);
	const char *name[] = {"poll", "poll with time", "nanosleep", "futex with time", "futex for all", "futex of one", "epoll_wait", "epoll_wait too"};
	for (int i = 0; i < n; i++) {
		OK(pthread_join(th[i], NULL));
		obs("%s: %s", name[i], res[i] ? strerror(res[i]) : "ok");
	}
	savepoint();
	return 0;
}
