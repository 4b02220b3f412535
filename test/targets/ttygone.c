// Slaves of a pseudo-terminal whose master was closed, one of them by a child,
// and the console and a virtual terminal of the machine by names of its own.
#include "ctl.h"
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <termios.h>

static void see(const char *what, int fd) {
	char link[400] = "", self[64], text[8];
	struct termios t;
	struct stat st;
	snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
	CHECK(readlink(self, link, sizeof link - 1));
	CHECK(fstat(fd, &st));
	int r = read(fd, text, sizeof text), re = errno, w = write(fd, "x", 1), we = errno, g = tcgetattr(fd, &t), ge = errno;
	struct pollfd p = {.fd = fd, .events = POLLIN | POLLOUT};
	CHECK(poll(&p, 1, 0));
	obs("=%s: %s, device %x", what, link, (int)st.st_rdev);
	obs("%s: mode %o, owner %d, links %d, flags %o, read %d %d, write %d %d, settings %d %d, poll %x", what, st.st_mode, st.st_uid, (int)st.st_nlink, fcntl(fd, F_GETFL), r, r < 0 ? re : 0, w,
	    w < 0 ? we : 0, g, g ? ge : 0, p.revents);
}

// Waits until nobody has the master any more: it hangs up once all of it is done, but its
// slaves are told of the end before that.
static void gone(int fd) {
	struct stat st;
	char text[8];
	while (poll(&(struct pollfd){.fd = fd}, 1, -1) < 1)
		;
	while (CHECK(fstat(fd, &st)), st.st_nlink || read(fd, text, sizeof text))
		sched_yield();
}

static int terminal(const char *name, int major, int minor) {
	char path[400];
	snprintf(path, sizeof path, "%s/%s", ctl_dir, name);
	CHECK(mknod(path, S_IFCHR | 0600, makedev(major, minor)));
	return open(path, O_RDONLY | O_NOCTTY | O_NONBLOCK); // there may be none
}

static void device(const char *what, int fd) {
	struct stat st = {0};
	struct termios t = {0};
	if (fd < 0)
		return;
	CHECK(fstat(fd, &st)), CHECK(tcgetattr(fd, &t));
	obs("=%s: device %x, flags %o, settings %x %x %x %x", what, (int)st.st_rdev, fcntl(fd, F_GETFL), t.c_iflag, t.c_oflag, t.c_cflag, t.c_lflag);
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	int master = CHECK(open("/dev/ptmx", O_RDWR | O_NOCTTY));
	CHECK(grantpt(master)), CHECK(unlockpt(master));
	char *name = ptsname(master);
	int one = CHECK(open(name, O_RDWR | O_NOCTTY)), two = CHECK(open(name, O_RDWR | O_NONBLOCK | O_NOCTTY)), again = CHECK(dup(one));
	CHECK(fchmod(one, 0604));
	int console = terminal("console", 5, 1), vt = terminal("vt", 4, 5), pid = CHECK(fork());
	if (!pid) {
		ctl_child("child");
		close(master), close(one), close(again), close(console), close(vt);
		gone(two);
		do
			see("child's", two);
		while (savepoint());
		_exit(0);
	}
	ctl_party("child");
	close(master), close(two);
	gone(one); // until the child has closed the master, too
	do {
		see("one", one), see("again", again);
		device("console", console), device("vt", vt);
	} while (savepoint());
	reap(pid);
	return 0;
}
