// Signal handlers with flags, mask and restorer, a mask and an alternate
// stack per thread, and that a handler still runs on it.
#include "ctl.h"
#include <pthread.h>

struct kaction { void *handler; unsigned long flags; void *restorer; uint64_t mask; };
static volatile sig_atomic_t on_altstack;
static __thread char stack[3][16384];
static pthread_barrier_t turn;

static void handler(int sig, siginfo_t *si, void *uc) {
	char here;
	stack_t ss;
	sigaltstack(NULL, &ss);
	on_altstack = ss.ss_flags & SS_ONSTACK && &here > (char *)ss.ss_sp && &here < (char *)ss.ss_sp + ss.ss_size;
}
static void once(int sig) {}

static void look(const char *who) {
	uint64_t mask;
	stack_t ss;
	CHECK(syscall(SYS_rt_sigprocmask, 0, NULL, &mask, 8));
	CHECK(sigaltstack(NULL, &ss));
	obs("%s mask %llx altstack flags %d size %zu", who, (unsigned long long)mask, ss.ss_flags, ss.ss_size);
	obs("=%s altstack %p", who, ss.ss_sp);
	on_altstack = -1;
	CHECK(syscall(SYS_tgkill, getpid(), gettid(), SIGUSR2));
	obs("%s handler on its stack %d", who, on_altstack);
}

static void *body(void *arg) {
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGRTMIN + 5);
	sigaddset(&set, 64);
	OK(pthread_sigmask(SIG_SETMASK, &set, NULL));
	CHECK(sigaltstack(&(stack_t){.ss_sp = stack, .ss_size = sizeof stack, .ss_flags = 1U << 31}, NULL));
	while (pthread_barrier_wait(&turn), !ctl_done) {
		look("thread");
		pthread_barrier_wait(&turn);
	}
	return NULL;
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	struct sigaction sa = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
	sigaddset(&sa.sa_mask, SIGHUP);
	CHECK(sigaction(SIGUSR2, &sa, NULL));
	CHECK(sigaction(SIGRTMAX, &(struct sigaction){.sa_handler = once, .sa_flags = SA_RESETHAND | SA_RESTART}, NULL));
	CHECK(sigaction(SIGCHLD, &(struct sigaction){.sa_handler = once, .sa_flags = SA_NOCLDSTOP | SA_NOCLDWAIT}, NULL));
	signal(SIGPIPE, SIG_IGN);
	CHECK(sigaltstack(&(stack_t){.ss_sp = stack, .ss_size = sizeof stack}, NULL));
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	OK(pthread_sigmask(SIG_SETMASK, &set, NULL));
	pthread_t th;
	OK(pthread_barrier_init(&turn, NULL, 2));
	OK(pthread_create(&th, NULL, body, NULL));
	do {
		for (int sig = 1; sig <= 64; sig++) {
			struct kaction k;
			if (syscall(SYS_rt_sigaction, sig, NULL, &k, 8))
				die("rt_sigaction %d", sig);
			obs("sig %d flags %lx mask %llx", sig, k.flags, (unsigned long long)k.mask);
			obs("=sig %d handler %p restorer %p", sig, k.handler, k.restorer);
		}
		look("main");
		pthread_barrier_wait(&turn);
		pthread_barrier_wait(&turn);
	} while (savepoint());
	pthread_barrier_wait(&turn);
	OK(pthread_join(th, NULL));
	return 0;
}
