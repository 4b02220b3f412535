// As many threads as the argument says wait in epoll_wait(2) without a timeout for input, and
// each says how that ended: 'o' for well, 'e' for EINTR. SIGUSR1 does nothing.
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

static int ep;

static void *waits(void *arg)
{
	struct epoll_event e;
	int n = epoll_wait(ep, &e, 1, -1);
	char c = n == 1 ? 'o' : errno == EINTR ? 'e' : '?';
	if (write(1, &c, 1) != 1)
		exit(1);
	return arg;
}

static void nothing(int sig) { (void)sig; }

int main(int argc, char **argv)
{
	struct epoll_event e = {EPOLLIN, {0}};
	int n = argc > 1 ? atoi(argv[1]) : 1;
	pthread_t th[1000];
	signal(SIGUSR1, nothing);
	ep = epoll_create1(0);
	if (ep < 0 || epoll_ctl(ep, EPOLL_CTL_ADD, 0, &e) || n > 1000)
		return 1;
	for (int i = 1; i < n; i++)
		if (pthread_create(&th[i], NULL, waits, NULL))
			return 1;
	waits(NULL);
	for (int i = 1; i < n; i++)
		pthread_join(th[i], NULL);
	return 0;
}
