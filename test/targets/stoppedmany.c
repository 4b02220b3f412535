// A process of several threads that is stopped, and for which a signal with a handler waits, and
// another one for its first thread: none of them hears of it before it goes on.
#include "ctl.h"
#include <pthread.h>
#include <sched.h>

static volatile int *heard;
static void count(int sig) {
	__atomic_add_fetch(&heard[sig == SIGHUP], 1, __ATOMIC_SEQ_CST);
}

static void *busy(void *arg) {
	for (;;)
		nanosleep(&(struct timespec){0, 100000}, NULL);
	return arg;
}

static void waits(pid_t pid) {
	char path[64], line[256];
	sprintf(path, "/proc/%d/status", pid);
	FILE *f = fopen(path, "re");
	MUST(f);
	while (fgets(line, sizeof line, f))
		if (!strncmp(line, "State", 5) || !strncmp(line, "ShdPnd", 6) || !strncmp(line, "SigPnd", 6))
			obs("%s", strtok(line, "\n"));
	fclose(f);
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	heard = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	signal(SIGUSR2, count), signal(SIGHUP, count);
	pid_t pid = CHECK(fork());
	if (pid == 0) {
		pthread_t t;
		CHECK(prctl(PR_SET_NAME, "meant-to-stop"));
		for (int i = 0; i < 8; i++)
			OK(pthread_create(&t, NULL, busy, NULL));
		sigset_t set;
		sigemptyset(&set), sigaddset(&set, SIGUSR2);
		OK(pthread_sigmask(SIG_BLOCK, &set, NULL)); // the first thread does not take it
		CHECK(kill(getpid(), SIGSTOP));
		busy(NULL);
	}
	siginfo_t si;
	CHECK(waitid(P_PID, pid, &si, WSTOPPED));
	CHECK(kill(pid, SIGUSR2)), CHECK(syscall(SYS_tgkill, pid, pid, SIGHUP));
	do
		waits(pid), obs("heard %d %d", heard[0], heard[1]);
	while (savepoint());
	CHECK(kill(pid, SIGCONT));
	while (!heard[0] || !heard[1])
		nanosleep(&(struct timespec){0, 100000}, NULL);
	CHECK(kill(pid, SIGKILL));
	CHECK(waitpid(pid, NULL, 0));
	return 0;
}
