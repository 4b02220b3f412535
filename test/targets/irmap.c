// A directory is watched that only a search finds: its file system tells no
// handles. It is argv[1].
#include "ctl.h"
#include <sys/inotify.h>

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	char file[400], buf[400] __attribute__((aligned(8)));
	CHECK(mkdir(argv[1], 0755));
	snprintf(file, sizeof file, "%s/new", argv[1]);
	int fd = CHECK(inotify_init1(IN_CLOEXEC));
	CHECK(inotify_add_watch(fd, argv[1], IN_CREATE));
	do {
		CHECK(mknod(file, S_IFREG | 0600, 0));
		CHECK(read(fd, buf, sizeof buf));
		struct inotify_event *e = (void *)buf;
		if (e->wd != 1 || e->mask != IN_CREATE || strcmp(e->name, "new"))
			die("watch %d mask %x %s", e->wd, e->mask, e->name);
		CHECK(unlink(file));
	} while (savepoint());
	return 0;
}
