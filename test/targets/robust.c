// Robust futex lists: an owner that dies after the save points is noticed,
// in the same process and in another one.
#include "ctl.h"
#include <pthread.h>

static pthread_mutex_t *mutex;
static pthread_barrier_t turn;

static void *body(void *arg) {
	OK(pthread_mutex_lock(&mutex[0]));
	pthread_barrier_wait(&turn);
	pthread_barrier_wait(&turn);
	return NULL; // with the mutex held
}

static void list(const char *who) {
	void *head;
	size_t len;
	CHECK(syscall(SYS_get_robust_list, 0, &head, &len));
	obs("=%s robust list %p len %zu", who, head, len);
}

static void took(const char *who, pthread_mutex_t *m) {
	int e = pthread_mutex_lock(m);
	obs("%s owner died: %s", who, e == EOWNERDEAD ? "EOWNERDEAD" : strerror(e));
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	mutex = CHECK(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
	pthread_mutexattr_t a;
	pthread_mutexattr_init(&a);
	OK(pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST));
	OK(pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED));
	OK(pthread_mutex_init(&mutex[0], &a));
	OK(pthread_mutex_init(&mutex[1], &a));
	ctl_party("holder");
	pid_t pid = CHECK(fork());
	if (pid == 0) {
		ctl_child("holder");
		OK(pthread_mutex_lock(&mutex[1]));
		do
			list("child");
		while (savepoint());
		_exit(0);
	}
	pthread_t th;
	OK(pthread_barrier_init(&turn, NULL, 2));
	OK(pthread_create(&th, NULL, body, NULL));
	pthread_barrier_wait(&turn);
	do
		list("main");
	while (savepoint());
	pthread_barrier_wait(&turn);
	OK(pthread_join(th, NULL));
	reap(pid);
	took("thread", &mutex[0]);
	took("process", &mutex[1]);
	savepoint();
	return 0;
}
