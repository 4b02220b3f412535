// FIFOs: both ends with data between, an end whose other one is gone, one that
// has never had a writer, one for reading and writing, one that was deleted.
#include "ctl.h"
#include <poll.h>

static char *path(const char *name) {
	static char buf[400];
	snprintf(buf, sizeof buf, "%s/%s", ctl_dir, name);
	return buf;
}

static int events(int fd) {
	struct pollfd p = {fd, POLLIN | POLLOUT};
	CHECK(poll(&p, 1, 0));
	return p.revents;
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	int more = !strcmp(argv[1], "more");
	char text[100] = "";
	CHECK(mkfifo(path("f.a"), 0640));
	int r = CHECK(open(path("f.a"), O_RDONLY | O_NONBLOCK)), w = CHECK(open(path("f.a"), O_WRONLY | (more ? O_NOFOLLOW : 0)));
	CHECK(fcntl(r, F_SETFL, 0));
	CHECK(write(w, "first second third ", 19));
	CHECK(mkfifo(path("f.b"), 0600));
	int gone = CHECK(open(path("f.b"), O_RDONLY | O_NONBLOCK));
	int tmp = CHECK(open(path("f.b"), O_WRONLY));
	CHECK(write(tmp, "left", 4)), close(tmp);
	CHECK(mkfifo(path("f.c"), 0600));
	int never = CHECK(open(path("f.c"), (more ? O_RDONLY : O_RDWR) | O_NONBLOCK));
	CHECK(mkfifo(path("f.d"), 0600));
	int both = CHECK(open(path("f.d"), O_RDWR | O_CLOEXEC));
	CHECK(fcntl(both, F_SETPIPE_SZ, 1 << 17));
	CHECK(unlink(path("f.d")));
	char big[100000];
	for (unsigned i = 0; i < sizeof big; i++)
		big[i] = i % 251;
	CHECK(write(both, big, sizeof big));
	do {
		obs("no link was followed: %d", (fcntl(w, F_GETFL) & O_NOFOLLOW) != 0);
		struct stat st;
		memset(text, 0, sizeof text);
		CHECK(read(r, text, 6));
		CHECK(write(w, "again ", 6));
		obs("flags %o %o, read %s, state %x %x", fcntl(r, F_GETFL), fcntl(w, F_GETFL), text, events(r), events(w));
		obs("gone %x flags %o, never %x", events(gone), fcntl(gone, F_GETFL), events(never));
		CHECK(read(both, big, sizeof big));
		obs("both %llx of %d flags %o", (unsigned long long)fnv(big, sizeof big), fcntl(both, F_GETPIPE_SZ), fcntl(both, F_GETFL));
		CHECK(write(both, big, sizeof big));
		CHECK(fstat(both, &st));
		obs("links %d mode %o", (int)st.st_nlink, st.st_mode);
	} while (savepoint());
	CHECK(read(gone, text, 10));
	obs("%.4s then %d", text, (int)CHECK(read(gone, text, 10)));
	savepoint();
	return 0;
}
