// One thread, in the system call that the first argument names.
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static int fds[2];
static struct timespec left = {-1, -1};
static unsigned word;

static void hear(int sig) { (void)sig; }

int main(int argc, char **argv) {
	struct timespec hour = {3600, 0}, ago = {1, 0};
	struct epoll_event ev;
	sigset_t none;
	sigemptyset(&none);
	sigaddset(&none, SIGUSR1);
	sigprocmask(SIG_BLOCK, &none, NULL);
	sigaction(SIGUSR2, &(struct sigaction){.sa_handler = hear}, NULL);
	pipe(fds);
	int ep = epoll_create1(0);
	printf("ready\n");
	fflush(stdout);
	const char *c = argv[1];
	long r = -99;
	(void)ago;
	if (!strcmp(c, "nanosleep"))
		r = syscall(SYS_nanosleep, &hour, &left);
	else if (!strcmp(c, "clock_nanosleep"))
		r = syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &hour, &left);
	else if (!strcmp(c, "norest"))
		r = syscall(SYS_nanosleep, &hour, NULL);
	else if (!strcmp(c, "poll"))
		r = syscall(SYS_poll, &(struct pollfd){fds[0], POLLIN}, 1, -1);
	else if (!strcmp(c, "polltime"))
		r = syscall(SYS_poll, &(struct pollfd){fds[0], POLLIN}, 1, 3600000);
	else if (!strcmp(c, "futex"))
		r = syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &hour, NULL, 0);
	else if (!strcmp(c, "read"))
		r = syscall(SYS_read, fds[0], &ev, 1);
	else if (!strcmp(c, "recvtime")) {
		struct timeval limit = {3600};
		int sock[2];
		socketpair(AF_UNIX, SOCK_STREAM, 0, sock);
		setsockopt(sock[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
		r = syscall(SYS_recvfrom, sock[0], &ev, 1, 0, NULL, NULL);
	} else if (!strcmp(c, "epoll"))
		r = syscall(SYS_epoll_wait, ep, &ev, 1, -1);
	else if (!strcmp(c, "epolltime"))
		r = syscall(SYS_epoll_wait, ep, &ev, 1, 3600000);
	else if (!strcmp(c, "sigwait"))
		r = syscall(SYS_rt_sigtimedwait, &none, NULL, NULL, 8);
	else if (!strcmp(c, "pause"))
		r = syscall(SYS_pause);
	if (r == -1 && errno == EINTR) // as a handler ends it
		r = syscall(SYS_pause);
	printf("%s %ld\n", c, r);
	return 0;
}
