// So many locks, signals that wait and timers that to bring them back takes more calls than
// there is room for by default.
#include "ctl.h"

enum { many = 6000 };

static struct flock lock(int i) {
	return (struct flock){.l_type = i % 2 ? F_WRLCK : F_RDLCK, .l_start = 3 * i, .l_len = 2};
}

// locked tells how many locks another process finds as they should be.
static int locked(const int *fd) {
	int *found = mmap(NULL, sizeof *found, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	MUST(found != MAP_FAILED);
	pid_t other = CHECK(fork());
	if (other == 0) {
		for (int i = 0; i < many; i++) {
			struct flock want = lock(i), l = {.l_type = F_WRLCK, .l_start = 3 * i, .l_len = 1};
			if (fcntl(fd[i % 20], F_GETLK, &l) == 0 && l.l_type == want.l_type && l.l_start == want.l_start && l.l_len == want.l_len)
				++*found;
		}
		_exit(0);
	}
	CHECK(waitpid(other, NULL, 0));
	int n = *found;
	CHECK(munmap(found, sizeof *found));
	return n;
}

// timers tells how many timers there are as they should be.
static int timers(void) {
	int n = 0;
	for (int i = 0; i < many; i++) {
		struct itimerspec t;
		if (syscall(SYS_timer_gettime, i, &t) == 0 && t.it_value.tv_sec / 10000 == i % 7 + 1 && t.it_interval.tv_sec == i)
			n++;
	}
	return n;
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	int fd[20];
	for (int i = 0; i < 20; i++) {
		char name[300];
		snprintf(name, sizeof name, "%s/lock-%d", ctl_dir, i);
		fd[i] = CHECK(open(name, O_RDWR | O_CREAT, 0600));
	}
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 1);
	CHECK(sigprocmask(SIG_BLOCK, &set, NULL));
	for (int i = 0; i < many; i++) {
		struct flock l = lock(i);
		CHECK(fcntl(fd[i % 20], F_SETLK, &l));
		CHECK(sigqueue(getpid(), SIGRTMIN + 1, (union sigval){.sival_int = i}));
		int id;
		CHECK(syscall(SYS_timer_create, CLOCK_MONOTONIC, &(struct sigevent){.sigev_notify = SIGEV_NONE}, &id));
		CHECK(syscall(SYS_timer_settime, id, 0, &(struct itimerspec){{i, 0}, {(i % 7 + 1) * 10000 + 5000, 0}}, NULL));
	}
	do
		obs("%d locks, %d timers", locked(fd), timers());
	while (savepoint());
	siginfo_t si;
	int n = 0;
	while (sigtimedwait(&set, &si, &(struct timespec){0}) > 0)
		n += si.si_value.sival_int == n;
	obs("%d signals", n);
	savepoint();
	return 0;
}
