// Threads that count, with numbers in memory, registers and floating point;
// the first one appends its count to the file "count". Ends with an error
// when any of it does not fit together. Runs until it is killed.
#include "ctl.h"
#include <pthread.h>

#define N 8
static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t c = PTHREAD_COND_INITIALIZER;
static int turn;
static long total;
static __thread long mine;

static void *body(void *arg) {
	int me = (long)arg, fd = me ? -1 : CHECK(open("count", O_WRONLY | O_CREAT | O_APPEND, 0644));
	pid_t tid = gettid();
	double half = 0;
	for (;;) {
		OK(pthread_mutex_lock(&m));
		while (turn != me)
			OK(pthread_cond_wait(&c, &m));
		MUST(total == mine * N + me);
		MUST(half == mine * 0.5);
		MUST(gettid() == tid && getpid() == (pid_t)syscall(SYS_getpid));
		if (!me)
			dprintf(fd, "%ld\n", mine);
		total++, mine++, half += 0.5;
		turn = (me + 1) % N;
		OK(pthread_cond_broadcast(&c));
		OK(pthread_mutex_unlock(&m));
		if (!me)
			nanosleep(&(struct timespec){0, 1000000}, NULL);
	}
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	pthread_t th;
	for (long i = 1; i < N; i++)
		OK(pthread_create(&th, NULL, body, (void *)i));
	body(0);
}
