// A process of some threads of which one, the first or another, executes the program
// anew within milliseconds, again and again.
#include "ctl.h"
#include <pthread.h>

static char **args;

static void *sleeps(void *none)
{
	for (;;)
		nanosleep(&(struct timespec){0, 300000}, NULL);
	return none;
}

static void *works(void *none)
{
	for (volatile long n = 0;; n++)
		;
	return none;
}

static void *executes(void *none)
{
	nanosleep(&(struct timespec){0, rand() % 3000000}, NULL);
	execv("/proc/self/exe", args);
	_exit(9);
}

int main(int argc, char **argv)
{
	ctl_init(argc, argv);
	args = argv;
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	srand(now.tv_nsec);
	char at[400];
	ctl_path(at, "at", NULL);
	mknod(at, S_IFREG | 0666, 0);
	pthread_t t;
	for (int i = 2 + rand() % 8; i > 0; i--)
		MUST(!pthread_create(&t, NULL, i == 4 ? works : sleeps, NULL));
	if (rand() % 2)
		executes(NULL);
	MUST(!pthread_create(&t, NULL, executes, NULL));
	for (;;)
		pause();
}
