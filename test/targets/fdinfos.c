// Entries of /proc/PID/fdinfo: of a task's own descriptors, by two paths, of one that was
// closed since, of the entry's own number, of a child's, and of a process outside. Each tells of what its
// number stands for when it is read.
#include "ctl.h"
#include <sys/eventfd.h>

static int info(const char *fmt, int pid, int n) {
	char path[100];
	snprintf(path, sizeof path, fmt, pid, n);
	return CHECK(open(path, O_RDONLY));
}

static void tell(const char *what, int fd) {
	char text[4096], path[100], link[100] = "";
	int at = CHECK(lseek(fd, 0, SEEK_CUR)), n = pread(fd, text, sizeof text - 1, 0);
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	CHECK(readlink(path, link, sizeof link - 1));
	obs("=%s is %s", what, link);
	obs("%s at %d: %s", what, at, n < 0 ? strerror(errno) : "read");
	text[n < 0 ? 0 : n] = 0;
	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
		if (!strncmp(line, "pos:", 4) || !strncmp(line, "flags:", 6) || !strncmp(line, "eventfd-count:", 14))
			obs("%s: %s", what, line);
}

int main(int argc, char **argv) {
	char some[20];
	ctl_init(argc, argv);
	int e = CHECK(eventfd(7, 0)), gone = CHECK(eventfd(8, 0)), high = CHECK(dup2(e, 600)), pid = getpid();
	int own = info("/proc/%d/fdinfo/%d", pid, e), far = info("/proc/%d/fdinfo/%d", pid, high);
	int closed = info("/proc/%d/fdinfo/%d", pid, gone), itself = CHECK(dup(e)), again;
	snprintf(some, sizeof some, "%d", itself);
	again = info("/proc/%d/fdinfo/%d", pid, itself);
	CHECK(dup2(again, itself)), close(again), close(gone);
	int task = CHECK(openat(CHECK(open("/proc/thread-self", O_PATH)), "fdinfo/0", O_RDONLY));
	int outside = info("/proc/%d/fdinfo/%d", getppid(), 0);
	MUST(read(own, some, 10) == 10);
	ctl_party("child");
	int child = CHECK(fork());
	if (!child) {
		ctl_child("child");
		CHECK(dup2(CHECK(eventfd(9, 0)), 300));
		do
			tell("the parent's", own);
		while (savepoint());
		return pause();
	}
	char path[100];
	snprintf(path, sizeof path, "/proc/%d/fdinfo/300", child);
	while (access(path, F_OK))
		usleep(1000);
	int its = info("/proc/%d/fdinfo/%d", child, 300);
	do {
		tell("own", own), tell("far", far), tell("closed", closed), tell("itself", itself);
		tell("of the first thread", task), tell("the child's", its), tell("outside", outside);
	} while (savepoint());
	CHECK(kill(child, SIGKILL)), CHECK(waitpid(child, NULL, 0));
	return 0;
}
