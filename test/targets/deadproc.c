// Files of /proc of processes that have ended: directories, files, one that is
// a child's working directory.
#include "ctl.h"
#include <dirent.h>

static void see(const char *what, int fd) {
	char link[400] = "", self[64], text[64];
	snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
	CHECK(readlink(self, link, sizeof link - 1));
	struct stat st;
	CHECK(fstat(fd, &st));
	int n = read(fd, text, sizeof text), e = n < 0 ? errno : 0;
	int sub = openat(fd, "stat", O_RDONLY), se = errno;
	obs("=%s: %s", what, link);
	obs("%s: type %o, flags %o, read %d %d, in it %d %d", what, st.st_mode & S_IFMT, fcntl(fd, F_GETFL), n, e, sub, sub < 0 ? se : 0);
}

static int ended(void) {
	int pid = CHECK(fork());
	if (!pid)
		for (;;)
			pause();
	return pid;
}

static int file_of(int pid, const char *name, int flags) {
	char path[100];
	snprintf(path, sizeof path, "/proc/%d%s", pid, name);
	return CHECK(open(path, flags));
}

static void stop(int pid) {
	CHECK(kill(pid, SIGKILL));
	CHECK(waitpid(pid, NULL, 0));
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	int a = ended(), b = ended();
	int dir = file_of(a, "", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int maps = file_of(b, "/maps", O_RDONLY), task = file_of(b, "/task", O_PATH), comm = file_of(b, "/comm", O_RDWR);
	// The child begins there: what it is of ends before it is asked for anything.
	int here = CHECK(open(".", O_PATH | O_CLOEXEC));
	CHECK(fchdir(task));
	int pid = CHECK(fork());
	if (pid)
		CHECK(fchdir(here));
	close(here);
	if (!pid) {
		ctl_child("child");
		char cwd[400] = "";
		do {
			CHECK(readlink("/proc/self/cwd", cwd, sizeof cwd - 1));
			obs("=in %s", cwd);
			obs("getcwd: %d", getcwd(cwd, sizeof cwd) ? 0 : errno);
		} while (savepoint());
		_exit(0);
	}
	ctl_party("child");
	stop(a), stop(b);
	do {
		see("dir", dir), see("maps", maps), see("comm", comm);
	} while (savepoint());
	reap(pid);
	return 0;
}
