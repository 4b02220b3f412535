// Signals that wait, and that the kernel would forget over SIGCONT, of a task whose sockets Glis
// has to put right: their queues are read with other options than their own.
#include "ctl.h"
#include <sys/socket.h>

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	sigset_t set, waits;
	sigemptyset(&set);
	sigaddset(&set, SIGTSTP), sigaddset(&set, SIGTTIN), sigaddset(&set, SIGTTOU);
	CHECK(sigprocmask(SIG_BLOCK, &set, NULL));
	int p[2], off = 1, no = 1;
	CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, p));
	for (int i = 0; i < 2; i++) {
		CHECK(setsockopt(p[i], SOL_SOCKET, SO_PEEK_OFF, &off, sizeof off));
		CHECK(setsockopt(p[i], SOL_SOCKET, SO_PASSCRED, &no, sizeof no));
		CHECK(write(p[i], "waits", 5));
	}
	CHECK(syscall(SYS_tgkill, getpid(), gettid(), SIGTTIN));
	CHECK(kill(getpid(), SIGTSTP));
	do
		CHECK(sigpending(&waits)), obs("waits %d %d", sigismember(&waits, SIGTTIN), sigismember(&waits, SIGTSTP));
	while (savepoint());
	return 0;
}
