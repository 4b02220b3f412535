// Pending signals: of the process and of one thread, with their siginfo, and
// the same real-time signal several times; among them two that nobody minds.
#include "ctl.h"
#include <pthread.h>

static pthread_barrier_t turn;

static void drain(const char *who, const sigset_t *set) {
	siginfo_t si;
	while (sigtimedwait(set, &si, &(struct timespec){0}) > 0)
		obs("%s took %d code %d value %d from us %d errno %d", who, si.si_signo, si.si_code, si.si_value.sival_int,
		    si.si_pid == getpid() && si.si_uid == 0, si.si_errno);
}

static void queued(const char *who) {
	char path[64], line[256];
	snprintf(path, sizeof path, "/proc/self/task/%d/status", gettid());
	FILE *f = fopen(path, "re");
	MUST(f);
	while (fgets(line, sizeof line, f))
		if (!strncmp(line, "SigPnd", 6) || !strncmp(line, "ShdPnd", 6) || !strncmp(line, "SigBlk", 6))
			obs("%s %.40s", who, strtok(line, "\n"));
	fclose(f);
}

static void tqueue(int sig, int value) {
	siginfo_t si = {.si_signo = sig, .si_code = SI_QUEUE, .si_pid = getpid(), .si_uid = getuid()};
	si.si_value.sival_int = value;
	CHECK(syscall(SYS_rt_tgsigqueueinfo, getpid(), gettid(), sig, &si));
}

static void *body(void *arg) {
	tqueue(SIGRTMIN + 1, 41);
	tqueue(SIGRTMIN + 1, 42);
	tqueue(SIGUSR2, 43);
	CHECK(syscall(SYS_tgkill, getpid(), gettid(), SIGHUP));
	while (pthread_barrier_wait(&turn), !ctl_done) {
		queued("thread");
		pthread_barrier_wait(&turn);
	}
	sigset_t mine;
	sigemptyset(&mine);
	sigaddset(&mine, SIGHUP);
	sigaddset(&mine, SIGUSR2);
	sigaddset(&mine, SIGRTMIN + 1);
	drain("thread", &mine);
	return NULL;
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	sigset_t set;
	sigfillset(&set);
	OK(pthread_sigmask(SIG_SETMASK, &set, NULL));
	OK(pthread_barrier_init(&turn, NULL, 2));
	pthread_t th;
	OK(pthread_create(&th, NULL, body, NULL));
	for (int i = 0; i < 3; i++)
		CHECK(sigqueue(getpid(), SIGRTMIN + 3, (union sigval){.sival_int = 7 + i}));
	CHECK(sigqueue(getpid(), SIGRTMAX, (union sigval){.sival_int = -1}));
	CHECK(sigqueue(getpid(), SIGUSR1, (union sigval){.sival_int = 99}));
	CHECK(kill(getpid(), SIGTERM));
	CHECK(kill(getpid(), SIGURG));
	CHECK(kill(getpid(), SIGWINCH));
	do {
		queued("main");
		pthread_barrier_wait(&turn); // one after the other: obs knows no threads
		pthread_barrier_wait(&turn);
	} while (savepoint());
	pthread_barrier_wait(&turn);
	OK(pthread_join(th, NULL));
	drain("main", &set);
	savepoint();
	return 0;
}
