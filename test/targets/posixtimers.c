// Timers of timer_create: numbers with gaps, clocks, signals to the process
// and to a thread, silent ones, intervals.
#include "ctl.h"
#include <pthread.h>

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

static volatile int ticks;
static volatile pid_t got;
static void tick(int s, siginfo_t *si, void *u) { ticks += si->si_value.sival_int == 77, got = gettid(); }

static int other;
static void *thread(void *arg) {
	other = gettid();
	while (other)
		pause();
	return arg;
}

static int timer(int clock, int notify, int sig, int value, int tid) {
	struct sigevent e = {.sigev_notify = notify, .sigev_signo = sig, .sigev_value.sival_int = value};
	e.sigev_notify_thread_id = tid;
	int id;
	CHECK(syscall(SYS_timer_create, clock, &e, &id));
	return id;
}

static void set(int id, long sec, long nsec, long isec, long insec) {
	CHECK(syscall(SYS_timer_settime, id, 0, &(struct itimerspec){{isec, insec}, {sec, nsec}}, NULL));
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	pthread_t t;
	OK(pthread_create(&t, NULL, thread, NULL));
	while (!other)
		usleep(100);
	struct sigaction sa = {.sa_sigaction = tick, .sa_flags = SA_SIGINFO | SA_RESTART};
	CHECK(sigaction(SIGRTMIN + 2, &sa, NULL));
	int id[8];
	for (int i = 0; i < 8; i++)
		id[i] = timer(i == 3 ? CLOCK_PROCESS_CPUTIME_ID : i == 5 ? CLOCK_REALTIME : CLOCK_MONOTONIC, i == 4 ? SIGEV_NONE : i == 7 ? SIGEV_THREAD_ID : SIGEV_SIGNAL,
			      SIGRTMIN + 2, i == 7 ? 77 : i, i == 7 ? other : 0);
	set(id[1], 100000, 0, 0, 0), set(id[3], 1000, 0, 5, 0), set(id[4], 200000, 5, 7, 0), set(id[5], 300000, 0, 0, 9), set(id[7], 0, 1000000, 0, 1000000);
	CHECK(syscall(SYS_timer_delete, id[0])), CHECK(syscall(SYS_timer_delete, id[2])), CHECK(syscall(SYS_timer_delete, id[6]));
	do {
		for (int i = 0; i < 7; i++) {
			struct itimerspec s = {};
			int r = syscall(SYS_timer_gettime, id[i], &s) ? errno : 0;
			obs("%d is %d: %d, %ld left, every %ld.%09ld", i, id[i], r, (s.it_value.tv_sec + 999) / 1000, (long)s.it_interval.tv_sec, s.it_interval.tv_nsec);
		}
		for (int from = ticks; ticks < from + 3;)
			usleep(100);
		obs("ticks go to the thread: %d", got == other);
	} while (savepoint());
	return 0;
}
