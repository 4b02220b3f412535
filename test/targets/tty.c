// A job of a terminal: its descriptors, settings and session.
#include "ctl.h"
#include <sys/ioctl.h>
#include <termios.h>

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	// criu can't do that with a terminal from outside.
	int own = strcmp(argv[1], "base") ? CHECK(open("/dev/tty", O_RDWR | O_CLOEXEC)) : CHECK(dup(0));
	do {
		struct termios t;
		struct winsize w;
		for (int fd = 0; fd < 3; fd++)
			obs("=%d is %s", fd, ttyname(fd));
		CHECK(tcgetattr(0, &t)), CHECK(ioctl(0, TIOCGWINSZ, &w));
		obs("modes %x %x %x %x size %d %d", t.c_iflag, t.c_oflag, t.c_cflag, t.c_lflag, w.ws_row, w.ws_col);
		obs("=session %d of terminal %d, own %d", getsid(0), tcgetsid(0), tcgetsid(own));
		dprintf(1, "written %d\n", ctl_gen);
	} while (savepoint());
	return 0;
}
