// Its root, or a thread of that, is killed when the parent ends.
#include "ctl.h"
#include <pthread.h>

static int here(void) {
	int sig = -1;
	CHECK(prctl(PR_GET_PDEATHSIG, &sig));
	return sig;
}

static int kills(void) {
	CHECK(prctl(PR_SET_PDEATHSIG, SIGKILL));
	return here();
}

static pthread_barrier_t looks, looked;
static int others;

static void *other(void *heeds) {
	if (heeds)
		kills();
	for (;;) {
		pthread_barrier_wait(&looks);
		others = here();
		pthread_barrier_wait(&looked);
	}
	return NULL;
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	int thread = !strcmp(argv[1], "thread");
	pthread_t id;
	OK(pthread_barrier_init(&looks, NULL, 2));
	OK(pthread_barrier_init(&looked, NULL, 2));
	OK(pthread_create(&id, NULL, other, thread ? argv : NULL));
	if (!thread)
		kills();
	do {
		pthread_barrier_wait(&looks);
		pthread_barrier_wait(&looked);
		obs("pdeathsig %d, of the other thread %d", here(), others);
	} while (savepoint());
	return 0;
}
