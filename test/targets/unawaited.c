// A parent that ignores SIGCHLD, as the process that starts apache's CGI programs does,
// so that nothing is left of its children when they end. There are always a dozen, of
// one thread or two, each of which lives for some milliseconds.
#include "ctl.h"
#include <pthread.h>

static int *alive; // how many there are

static void *lives(void *none)
{
	nanosleep(&(struct timespec){0, 500000 + rand() % 20000000}, NULL);
	__atomic_sub_fetch(alive, 1, __ATOMIC_SEQ_CST);
	_exit(0);
	return none;
}

static void child(int n)
{
	pthread_t t;
	srand(n);
	if (n % 4)
		lives(NULL);
	MUST(!pthread_create(&t, NULL, lives, NULL));
	for (;;)
		pause();
}

int main(int argc, char **argv)
{
	ctl_init(argc, argv);
	signal(SIGCHLD, SIG_IGN);
	alive = CHECK(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
	char at[400];
	ctl_path(at, "at", NULL);
	mknod(at, S_IFREG | 0666, 0);
	for (int n = 0;; n++) {
		while (__atomic_load_n(alive, __ATOMIC_SEQ_CST) >= 12)
			nanosleep(&(struct timespec){0, 100000}, NULL);
		__atomic_add_fetch(alive, 1, __ATOMIC_SEQ_CST);
		if (!CHECK(fork()))
			child(n);
	}
}
