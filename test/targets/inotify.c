// Watches: of directories and files, with gaps in their numbers, one that ends
// by itself, and fanotify marks on files.
#include "ctl.h"
#include <sys/fanotify.h>
#include <sys/inotify.h>

static const char *path(const char *name) {
	static char buf[4][400];
	static int n;
	snprintf(buf[n %= 4], 400, "%s/%s", ctl_dir, name);
	return buf[n++];
}

static void touch(const char *name) { close(CHECK(open(path(name), O_WRONLY | O_CREAT, 0644))); }

static void drain(const char *what, int fd) {
	char buf[4096] __attribute__((aligned(8)));
	int n;
	while ((n = read(fd, buf, sizeof buf)) > 0)
		for (char *p = buf; p < buf + n;) {
			struct inotify_event *e = (void *)p;
			obs("%s: watch %d mask %x %s", what, e->wd, e->mask, e->len ? e->name : "");
			p += sizeof *e + e->len;
		}
	MUST(errno == EAGAIN);
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	CHECK(mkdir(path("d"), 0755)), CHECK(mkdir(path("e"), 0755));
	touch("file");
	int fd = CHECK(inotify_init1(IN_NONBLOCK)), other = CHECK(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
	int a = CHECK(inotify_add_watch(fd, path("d"), IN_CREATE | IN_DELETE | IN_ONLYDIR));
	CHECK(inotify_rm_watch(fd, CHECK(inotify_add_watch(fd, path("file"), IN_OPEN))));
	int b = CHECK(inotify_add_watch(fd, path("file"), IN_MODIFY | IN_ATTRIB | IN_EXCL_UNLINK));
	int c = CHECK(inotify_add_watch(fd, path("e"), IN_CREATE | IN_ONESHOT));
	CHECK(inotify_add_watch(other, path("e"), IN_ALL_EVENTS));
	int fa = fanotify_init(FAN_CLASS_NOTIF | FAN_NONBLOCK, O_RDONLY | O_CLOEXEC);
	CHECK(fa);
	CHECK(fanotify_mark(fa, FAN_MARK_ADD, FAN_CLOSE_WRITE | FAN_EVENT_ON_CHILD, AT_FDCWD, path("d")));
	// Its next number is behind one that is gone, if that is wanted.
	int last = CHECK(inotify_init1(IN_NONBLOCK));
	CHECK(inotify_add_watch(last, path("d"), IN_MOVED_FROM)), CHECK(inotify_add_watch(last, path("e"), IN_MOVED_FROM));
	if (argc > 2)
		CHECK(inotify_rm_watch(last, CHECK(inotify_add_watch(last, path("file"), IN_MOVED_FROM))));
	drain("ignored", last);
	int gone = CHECK(open(path("gone"), O_RDWR | O_CREAT, 0600));
	CHECK(inotify_add_watch(fd, path("gone"), IN_MODIFY | IN_DELETE_SELF)), CHECK(unlink(path("gone")));
	drain("begin", fd);
	do {
		CHECK(write(gone, "x", 1));
		char name[20];
		obs("numbers %d %d %d flags %o %o", a, b, c, fcntl(fd, F_GETFL), fcntl(other, F_GETFD));
		snprintf(name, sizeof name, "d/%d", ctl_gen);
		touch(name);
		struct fanotify_event_metadata m[8];
		int n = CHECK(read(fa, m, sizeof m));
		for (int i = 0; i * (int)sizeof *m < n; i++)
			obs("fanotify %llx by me %d", (unsigned long long)m[i].mask, m[i].pid == getpid()), close(m[i].fd);
		MUST(read(fa, m, sizeof m) < 0 && errno == EAGAIN);
		CHECK(chmod(path("file"), 0600 + ctl_gen));
		if (ctl_gen == 1)
			touch("e/x"), touch("e/y"); // the first of them ends the watch
		drain("fd", fd), drain("other", other);
	} while (savepoint());
	obs("the next watch is %d", CHECK(inotify_add_watch(last, path("file"), IN_MOVED_FROM)));
	savepoint();
	return 0;
}
