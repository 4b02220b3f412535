// Many threads (argv[1] of them) with their TIDs, thread-local storage and
// pthread_join (clear_child_tid) after the save points.
#include "ctl.h"
#include <pthread.h>

static __thread uint64_t local;
static pthread_barrier_t turn;
static pid_t tids[2000];
static uint64_t sum;

static void *body(void *arg) {
	long i = (long)arg;
	local = i * 1000;
	tids[i] = gettid();
	for (;;) {
		pthread_barrier_wait(&turn);
		if (ctl_done)
			return arg;
		if (gettid() != tids[i])
			die("thread %ld: tid %d, was %d", i, gettid(), tids[i]);
		local++;
		__atomic_fetch_add(&sum, local, __ATOMIC_SEQ_CST);
		pthread_barrier_wait(&turn);
	}
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	long n = atol(argv[1]);
	static pthread_t th[2000];
	pthread_attr_t attr;
	pthread_attr_init(&attr);
	OK(pthread_attr_setstacksize(&attr, 64 << 10));
	OK(pthread_barrier_init(&turn, NULL, n + 1));
	for (long i = 0; i < n; i++)
		OK(pthread_create(&th[i], &attr, body, (void *)i));
	do {
		pthread_barrier_wait(&turn); // all count
		pthread_barrier_wait(&turn); // all have counted
		obs("sum %llu", (unsigned long long)__atomic_exchange_n(&sum, 0, __ATOMIC_SEQ_CST));
	} while (savepoint());
	pthread_barrier_wait(&turn);
	for (long i = 0; i < n; i++) {
		void *ret;
		OK(pthread_join(th[i], &ret));
		MUST(ret == (void *)i);
	}
	return 0;
}
