// Namespaces that are open as files are those of the process again.
#include "ctl.h"

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	static const char *names[] = {"pid", "net", "ipc", "uts", "mnt", "user", "cgroup"};
	int fds[7];
	for (int i = 0; i < 7; i++) {
		char path[64];
		snprintf(path, sizeof path, "/proc/self/ns/%s", names[i]);
		fds[i] = CHECK(open(path, O_RDONLY | (i % 2 ? O_CLOEXEC : 0)));
	}
	do {
		for (int i = 0; i < 7; i++) {
			char path[64];
			struct stat a, b;
			snprintf(path, sizeof path, "/proc/self/ns/%s", names[i]);
			CHECK(stat(path, &a));
			CHECK(fstat(fds[i], &b));
			obs("%s same %d cloexec %d flags %#x", names[i], a.st_dev == b.st_dev && a.st_ino == b.st_ino, fcntl(fds[i], F_GETFD), fcntl(fds[i], F_GETFL));
		}
	} while (savepoint());
	return 0;
}
