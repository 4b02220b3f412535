// Signalfds: masks, flags, a signal that waits for its reader, one in an epoll
// file.
#include "ctl.h"
#include <sys/epoll.h>
#include <sys/signalfd.h>

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	sigset_t usr, all;
	sigemptyset(&usr), sigaddset(&usr, SIGUSR1), sigaddset(&usr, SIGRTMIN + 3);
	sigfillset(&all);
	CHECK(sigprocmask(SIG_BLOCK, &usr, NULL));
	int a = CHECK(signalfd(-1, &usr, SFD_NONBLOCK)), b = CHECK(signalfd(-1, &all, SFD_CLOEXEC));
	int ep = CHECK(epoll_create1(0));
	CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, a, &(struct epoll_event){EPOLLIN, {.u32 = 7}}));
	do {
		struct signalfd_siginfo si;
		struct epoll_event ev;
		if (ctl_gen) {
			CHECK(read(a, &si, sizeof si));
			obs("came %d of %d, pid mine: %d", si.ssi_signo - SIGRTMIN, si.ssi_int, si.ssi_pid == (unsigned)getpid());
		}
		MUST(read(a, &si, sizeof si) < 0 && errno == EAGAIN);
		CHECK(kill(getpid(), SIGUSR1));
		CHECK(read(b, &si, sizeof si));
		obs("all: %d, flags %o %o", si.ssi_signo, fcntl(a, F_GETFL), fcntl(b, F_GETFD));
		CHECK(sigqueue(getpid(), SIGRTMIN + 3, (union sigval){.sival_int = 100 + ctl_gen}));
		obs("epoll %d", CHECK(epoll_wait(ep, &ev, 1, -1)));
	} while (savepoint());
	return 0;
}
