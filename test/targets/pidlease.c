// A lease on a pidfd of one's child, which nobody else may open another one of meanwhile.
#include "ctl.h"
#include <sys/syscall.h>

static volatile int asked;
static void ask(int s) { asked += s; }

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	pid_t pid = CHECK(fork());
	if (pid == 0) {
		CHECK(prctl(PR_SET_PDEATHSIG, SIGKILL));
		for (;;)
			pause();
	}
	int fd = CHECK(syscall(SYS_pidfd_open, pid, 0));
	signal(SIGIO, ask);
	CHECK(fcntl(fd, F_SETLEASE, F_WRLCK));
	while (savepoint())
		;
	MUST(fcntl(fd, F_GETLEASE) == F_WRLCK && !asked);
	kill(pid, SIGKILL);
	CHECK(waitpid(pid, NULL, 0));
	return 0;
}
