// A SIGCONT that waits for a process of which a thread sleeps for a given time.
#include "ctl.h"
#include <pthread.h>

static void *sleeper(void *arg) {
	nanosleep(&(struct timespec){100000, 0}, NULL);
	die("woke up");
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	sigset_t set, waits;
	sigemptyset(&set);
	sigaddset(&set, SIGCONT);
	OK(pthread_sigmask(SIG_BLOCK, &set, NULL));
	pthread_t t;
	OK(pthread_create(&t, NULL, sleeper, NULL));
	ctl_asleep();
	CHECK(sigqueue(getpid(), SIGCONT, (union sigval){.sival_int = 5}));
	do
		CHECK(sigpending(&waits)), obs("waits %d", sigismember(&waits, SIGCONT));
	while (savepoint());
	siginfo_t i;
	CHECK(sigwaitinfo(&set, &i));
	obs("code %d value %d", i.si_code, i.si_value.sival_int);
	savepoint();
	return 0;
}
