// Limits that were lowered below what is in use by then: descriptors, signals that wait,
// timers, locked memory, processes of the user.
#include "ctl.h"
#include <sys/resource.h>

enum { many = 100 };

static void lower(int what, unsigned to) { CHECK(setrlimit(what, &(struct rlimit){to, to})); }

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 1);
	CHECK(sigprocmask(SIG_BLOCK, &set, NULL));
	int id[many];
	for (int i = 0; i < many; i++) {
		CHECK(sigqueue(getpid(), SIGRTMIN + 1, (union sigval){.sival_int = i}));
		CHECK(syscall(SYS_timer_create, CLOCK_MONOTONIC, &(struct sigevent){.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN}, &id[i]));
		CHECK(syscall(SYS_timer_settime, id[i], 0, &(struct itimerspec){{0, 0}, {i * 10000 + 5000, 0}}, NULL));
		CHECK(dup2(0, 200 + i));
	}
	void *locked = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	MUST(locked != MAP_FAILED);
	CHECK(mlock(locked, 1 << 20));
	lower(RLIMIT_NOFILE, 20), lower(RLIMIT_SIGPENDING, 10), lower(RLIMIT_MEMLOCK, 0), lower(RLIMIT_NPROC, 0), lower(RLIMIT_STACK, 4096);
	CHECK(setresuid(4321, 4321, 4321));
	do {
		int timers = 0, open = 0;
		for (int i = 0; i < many; i++) {
			struct itimerspec t;
			timers += syscall(SYS_timer_gettime, id[i], &t) == 0 && t.it_value.tv_sec / 10000 == i;
			open += fcntl(200 + i, F_GETFD) == 0;
		}
		obs("%d timers, %d descriptors; one timer more: %d", timers, open, timer_create(CLOCK_MONOTONIC, NULL, &(timer_t){0}) ? errno : 0);
	} while (savepoint());
	siginfo_t si;
	int n = 0;
	while (sigtimedwait(&set, &si, &(struct timespec){0}) > 0)
		n += si.si_value.sival_int == n;
	obs("%d signals", n);
	savepoint();
	return 0;
}
