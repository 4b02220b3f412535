// Fanotify files that tell of files by their handles (FAN_REPORT_FID), of somebody with
// CAP_SYS_ADMIN and of somebody without: the latter is not told who else did something.
#include "ctl.h"
#include <sys/fanotify.h>

#ifndef FAN_REPORT_FID
#define FAN_REPORT_FID 0x200
#endif

static int watch(int uid) {
	CHECK(seteuid(uid));
	int fd = CHECK(fanotify_init(FAN_CLASS_NOTIF | FAN_NONBLOCK | FAN_REPORT_FID, O_RDONLY));
	CHECK(seteuid(0));
	CHECK(fanotify_mark(fd, FAN_MARK_ADD, FAN_CREATE | FAN_ONDIR, AT_FDCWD, "d"));
	return fd;
}

static void reports(const char *what, int fd, pid_t child) {
	char buf[4096] __attribute__((aligned(8)));
	int n;
	while ((n = read(fd, buf, sizeof buf)) > 0)
		for (struct fanotify_event_metadata *m = (void *)buf; FAN_EVENT_OK(m, n); m = FAN_EVENT_NEXT(m, n))
			obs("%s: %llx, descriptor %d, by %s", what, (unsigned long long)m->mask, m->fd, m->pid == getpid() ? "me" : m->pid == child ? "the child" : m->pid ? "somebody" : "nobody");
	MUST(errno == EAGAIN);
}

static void make(const char *who) {
	char path[60];
	snprintf(path, sizeof path, "d/%s%d", who, ctl_gen);
	CHECK(mkdir(path, 0755));
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	CHECK(mkdir("d", 0755));
	int with = watch(0), without = watch(65534);
	do {
		make("mine");
		reports("with", with, -1), reports("without", without, -1);
		pid_t child = CHECK(fork());
		if (child == 0) {
			make("its");
			_exit(0);
		}
		reap(child);
		reports("with", with, child), reports("without", without, child);
	} while (savepoint());
	return 0;
}
