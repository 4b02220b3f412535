// Pidfds: of the program itself, of a child, of a zombie, of dead processes.
#include "ctl.h"
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/pidfd.h>

static int ready(int fd) { return poll(&(struct pollfd){fd, POLLIN}, 1, 0); }

static int start(int *pid, int code) {
	*pid = CHECK(fork());
	if (*pid == 0) {
		if (code >= 0)
			_exit(code);
		for (;;)
			pause();
	}
	return CHECK(syscall(SYS_pidfd_open, *pid, 0));
}

// ended is how the kernel says that a dead process ended, since Linux 6.15.
static int ended(int fd) {
	struct { uint64_t mask, cgroup; uint32_t ids[11]; int32_t code; } info = {.mask = 8};
	return ioctl(fd, _IOWR(0xFF, 11, info), &info) || !(info.mask & 8) ? -1 : info.code;
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	int child, zombie, dead, killed, other;
	int self = CHECK(syscall(SYS_pidfd_open, getpid(), O_NONBLOCK));
	int fd[] = {start(&child, -1), start(&zombie, 3), start(&dead, 42), 0, start(&killed, -1), start(&other, 0)};
	fd[3] = CHECK(dup(fd[2]));
	CHECK(waitpid(dead, NULL, 0));
	CHECK(waitpid(other, NULL, 0));
	CHECK(syscall(SYS_pidfd_send_signal, fd[4], SIGTERM, NULL, 0));
	CHECK(waitpid(killed, NULL, 0));
	CHECK(poll(&(struct pollfd){fd[1], POLLIN}, 1, -1));
	do {
		obs("self %d flags %o", ready(self), fcntl(self, F_GETFL));
		for (int i = 0; i < 6; i++)
			obs("%d ready %d cloexec %d ended %#x, signal 0: %d", i, ready(fd[i]), fcntl(fd[i], F_GETFD), ended(fd[i]),
			    syscall(SYS_pidfd_send_signal, fd[i], 0, NULL, 0) ? errno : 0);
		MUST(syscall(SYS_kcmp, getpid(), getpid(), 0, fd[2], fd[3]) == 0);
	} while (savepoint());
	siginfo_t si;
	CHECK(waitid(P_PIDFD, fd[1], &si, WEXITED));
	obs("zombie %d", si.si_status);
	CHECK(syscall(SYS_pidfd_send_signal, fd[0], SIGKILL, NULL, 0));
	CHECK(waitid(P_PIDFD, fd[0], &si, WEXITED));
	obs("child %d, %d", si.si_code, si.si_status);
	savepoint();
	return 0;
}
