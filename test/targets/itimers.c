// Interval timers: long ones keep interval and rest, a short one rings.
#include "ctl.h"
#include <sys/time.h>

static volatile sig_atomic_t rang;
static void ring(int sig) { rang++; }

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	int short_one = !strcmp(argv[1], "short");
	signal(SIGALRM, ring);
	struct itimerval it[] = {
		{{1000, 500}, {short_one ? 2 : 5000, 0}}, {{7, 0}, {4000, 250000}}, {{0, 0}, {3000, 1}}};
	if (!strcmp(argv[1], "off"))
		it[1].it_value = it[2].it_value = (struct timeval){0, 0}; // switched off, each keeps its interval
	for (int i = 0; i < 3; i++)
		CHECK(setitimer(i, &it[i], NULL));
	do
		for (int i = 0; i < 3; i++) {
			struct itimerval now;
			CHECK(getitimer(i, &now));
			obs("timer %d interval %ld.%06ld", i, (long)now.it_interval.tv_sec, (long)now.it_interval.tv_usec);
			long rest = now.it_value.tv_sec, was = it[i].it_value.tv_sec;
			obs("timer %d running %d, near its start %d", i, now.it_value.tv_sec || now.it_value.tv_usec, short_one && i == 0 ? 1 : rest <= was && rest > was - 600);
		}
	while (savepoint());
	if (short_one) {
		// Blocked first: the signal must not come between the look and the wait.
		sigset_t set;
		sigemptyset(&set);
		sigaddset(&set, SIGALRM);
		CHECK(sigprocmask(SIG_BLOCK, &set, NULL));
		sigemptyset(&set);
		while (!rang)
			sigsuspend(&set);
		obs("rang %d", rang);
		savepoint();
	}
	return 0;
}
