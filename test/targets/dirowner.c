// A directory's descriptor with an owner that asks for no signals, though it did once
// (F_NOTIFY), and others watch the directory.
#include "ctl.h"
#include <sys/inotify.h>

static volatile int heard;
static void hear(int sig) { heard = sig; }

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	signal(SIGUSR1, hear);
	CHECK(mkdir("seen", 0755));
	int once = CHECK(open("seen", O_RDONLY | O_DIRECTORY)), back = CHECK(open("seen", O_RDONLY | O_DIRECTORY)),
	    never = CHECK(open("seen", O_RDONLY | O_DIRECTORY));
	CHECK(fcntl(once, F_SETSIG, SIGUSR1));
	CHECK(fcntl(once, F_NOTIFY, DN_CREATE));
	CHECK(fcntl(back, F_NOTIFY, DN_CREATE | DN_MULTISHOT));
	CHECK(fcntl(back, F_NOTIFY, 0));
	CHECK(fcntl(never, F_SETOWN, getpid()));
	close(CHECK(creat("seen/new", 0600)));
	MUST(heard == SIGUSR1);
	CHECK(inotify_add_watch(CHECK(inotify_init1(IN_NONBLOCK)), "seen", IN_DELETE));
	do
		for (int fd = once; fd <= never; fd++)
			obs("owner is itself %d, signal %d", fcntl(fd, F_GETOWN) == getpid(), fcntl(fd, F_GETSIG));
	while (savepoint());
	return 0;
}
