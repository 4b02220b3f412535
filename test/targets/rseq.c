// The restartable sequence area that libc registers for every thread.
#include "ctl.h"
#include <linux/rseq.h>
#include <pthread.h>
#include <sys/rseq.h>

static pthread_barrier_t turn;

static void look(const char *who) {
	struct rseq *r = (struct rseq *)((char *)__builtin_thread_pointer() + __rseq_offset);
	unsigned len = __rseq_size < 32 ? 32 : __rseq_size;
	// Registering what is registered is EBUSY; anything else is EINVAL or works.
	long again = syscall(SYS_rseq, r, len, 0, RSEQ_SIG);
	obs("%s rseq registered %d", who, again == -1 && errno == EBUSY);
	obs("%s cpu known %d", who, (int)r->cpu_id >= 0);
	obs("=%s rseq at %p", who, r);
	cpu_set_t one, all;
	CHECK(sched_getaffinity(0, sizeof all, &all));
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &all))
			continue;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		CHECK(sched_setaffinity(0, sizeof one, &one));
		if (*(volatile uint32_t *)&r->cpu_id != cpu)
			die("%s on cpu %d, rseq says %d", who, cpu, r->cpu_id);
	}
	CHECK(sched_setaffinity(0, sizeof all, &all));
}

static void *body(void *arg) {
	while (pthread_barrier_wait(&turn), !ctl_done) {
		look("thread");
		pthread_barrier_wait(&turn);
	}
	return NULL;
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	pthread_t th;
	OK(pthread_barrier_init(&turn, NULL, 2));
	OK(pthread_create(&th, NULL, body, NULL));
	do {
		look("main");
		pthread_barrier_wait(&turn);
		pthread_barrier_wait(&turn);
	} while (savepoint());
	pthread_barrier_wait(&turn);
	OK(pthread_join(th, NULL));
	return 0;
}
