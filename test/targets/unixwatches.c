// A connection that waits to be accepted, with inotify and fanotify files that are in no
// process: their watches, with gaps in their numbers, of directories, files, links and what
// was deleted.
#include "unix.h"
#include <sys/fanotify.h>
#include <sys/inotify.h>

static void touch(const char *name) { close(CHECK(open(name, O_WRONLY | O_CREAT, 0644))); }

static void events(const char *what, int fd) {
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

static void reports(const char *what, int fd) {
	struct fanotify_event_metadata m[8];
	char path[40], name[500];
	int n;
	while ((n = read(fd, m, sizeof m)) > 0)
		for (int i = 0; i * (int)sizeof *m < n; i++) {
			sprintf(path, "/proc/self/fd/%d", m[i].fd);
			int len = CHECK(readlink(path, name, sizeof name - 1));
			name[len] = 0;
			obs("%s: %llx of %s, flags %o, by this process %d", what, (unsigned long long)m[i].mask, strrchr(name, '/'), fcntl(m[i].fd, F_GETFL), m[i].pid == getpid());
			close(m[i].fd);
		}
	MUST(errno == EAGAIN);
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	int l = add("door", listening(SOCK_STREAM, NAME("door"))), c = add("client", client(SOCK_STREAM, NAME("door"))), fds[6], n = 0;
	CHECK(mkdir("d", 0755)), CHECK(mkdir("e", 0755)), touch("file"), touch("d/below"), CHECK(symlink("file", "link"));
	int gone = CHECK(open("gone", O_RDWR | O_CREAT, 0600));
	int in = fds[n++] = CHECK(inotify_init1(IN_NONBLOCK));
	CHECK(inotify_add_watch(in, "d", IN_CREATE | IN_DELETE | IN_ONLYDIR));
	CHECK(inotify_rm_watch(in, CHECK(inotify_add_watch(in, "file", IN_OPEN))));
	CHECK(inotify_add_watch(in, "file", IN_MODIFY | IN_ATTRIB | IN_EXCL_UNLINK)), CHECK(inotify_add_watch(in, "e", IN_CREATE | IN_ONESHOT));
	CHECK(inotify_add_watch(in, "link", IN_ATTRIB | IN_DELETE_SELF | IN_DONT_FOLLOW)), CHECK(inotify_add_watch(in, "gone", IN_MODIFY));
	CHECK(unlink("gone"));
	fds[n++] = CHECK(inotify_init1(IN_CLOEXEC));
	events("begin", in);
	int fa = fds[n++] = CHECK(fanotify_init(FAN_CLASS_NOTIF | FAN_NONBLOCK | FAN_UNLIMITED_MARKS, O_RDONLY | O_CLOEXEC | O_NOATIME));
	CHECK(fanotify_mark(fa, FAN_MARK_ADD, FAN_CLOSE_WRITE | FAN_EVENT_ON_CHILD, AT_FDCWD, "d"));
	CHECK(fanotify_mark(fa, FAN_MARK_ADD, FAN_MODIFY | FAN_OPEN, AT_FDCWD, "file"));
	CHECK(fanotify_mark(fa, FAN_MARK_ADD | FAN_MARK_IGNORED_MASK | FAN_MARK_IGNORED_SURV_MODIFY, FAN_OPEN, AT_FDCWD, "file"));
	fds[n++] = CHECK(fanotify_init(FAN_CLASS_NOTIF, O_RDWR));
	with(c, "files", 5, fds, n, NULL);
	for (int i = 0; i < n; i++)
		CHECK(close(fds[i]));
	do
		look_all();
	while (savepoint());

	char data[20], control[CMSG_SPACE(sizeof fds)];
	struct iovec v = {data, sizeof data};
	struct msghdr h = {NULL, 0, &v, 1, control, sizeof control, 0};
	int s = CHECK(accept(l, NULL, NULL));
	MUST(CHECK(recvmsg(s, &h, 0)) == 5 && CMSG_FIRSTHDR(&h)->cmsg_len == CMSG_LEN(n * sizeof(int)));
	memcpy(fds, CMSG_DATA(CMSG_FIRSTHDR(&h)), n * sizeof(int));
	for (int i = 0; i < n; i++)
		obs("%d: flags %o", i, fcntl(fds[i], F_GETFL));
	events("nothing", fds[0]), reports("nothing", fds[2]);
	touch("d/new"), CHECK(unlink("d/below")), CHECK(chmod("file", 0600)), touch("e/x"), touch("e/y");
	int f = CHECK(open("file", O_RDWR));
	CHECK(write(f, "x", 1)), CHECK(write(gone, "x", 1)), CHECK(lchown("link", 1, 1)), CHECK(unlink("link"));
	events("events", fds[0]), reports("reports", fds[2]);
	obs("next %d %d", CHECK(inotify_add_watch(fds[0], "e", IN_CREATE)), CHECK(inotify_add_watch(fds[1], "e", IN_CREATE)));
	CHECK(fanotify_mark(fds[3], FAN_MARK_ADD, FAN_OPEN, AT_FDCWD, "d"));
	savepoint();
	return 0;
}
