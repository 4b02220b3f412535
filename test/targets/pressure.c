// Files of pressure (PSI): one that poll(2) tells of it, and one that nothing was written to.
#include "ctl.h"
#include <poll.h>

int main(int argc, char **argv) {
	static const char often[] = "full 1900000 2000000";
	ctl_init(argc, argv);
	int told = CHECK(open("/proc/pressure/cpu", O_RDWR | O_NONBLOCK)), plain = CHECK(open("/proc/pressure/memory", O_RDWR));
	CHECK(write(told, often, sizeof often));
	do {
		struct pollfd p[2] = {{told, POLLPRI, 0}, {plain, POLLPRI, 0}};
		CHECK(poll(p, 2, 0));
		// Whether there was pressure is the machine's; that there is nothing to tell is an error.
		obs("poll tells %#x, %#x", p[0].revents & ~POLLPRI, p[1].revents);
		MUST(write(told, often, sizeof often) < 0);
		obs("once more: %s", strerror(errno));
		obs("at %ld, flags %#x", (long)lseek(told, 0, SEEK_CUR), fcntl(told, F_GETFL) & ~O_LARGEFILE);
		char word[5] = "";
		CHECK(pread(told, word, 4, 0));
		obs("%s", word);
	} while (savepoint());
	return 0;
}
