// Pipes and a FIFO with packets and plain data, one after the other, as when
// O_DIRECT is turned on or off (F_SETFL) while data waits; also where the pages
// are full, or a page is half read, and where all there is are packets, or
// plain data, of a writer that writes the other by now.
#include "ctl.h"
#include <sys/ioctl.h>

#define N 8

static int p[N][2];
static char buf[1 << 16];

static void put(int i, int flags, int n) {
	CHECK(fcntl(p[i][1], F_SETFL, O_NONBLOCK | flags));
	if (write(p[i][1], buf, n) != n)
		die("pipe %d: write %d: %s", i, n, strerror(errno));
}

// take reads in small pieces: of a packet the first is all there is.
static void take(int i, size_t step) {
	char got[64];
	int left, reads = 0;
	unsigned long long h = 0;
	for (ssize_t n; (n = read(p[i][0], got, step)) > 0; reads++) {
		CHECK(ioctl(p[i][0], FIONREAD, &left));
		h = (h * 31 + fnv(got, n)) * 31 + left;
	}
	obs("%d: %d reads by %zu, %llx", i, reads, step, h);
}

static void made(void) {
	put(0, O_DIRECT, 3), put(0, 0, 12513);
	put(1, 0, 4094), put(1, O_DIRECT, 10), put(1, 0, 7);
	put(2, 0, 4096), put(2, O_DIRECT, 3), put(2, O_DIRECT, 4096), CHECK(read(p[2][0], buf + 8192, 4000));
	put(3, O_DIRECT, 1);
	put(4, 0, 5);
	put(5, 0, 15 * 4096), put(5, O_DIRECT, 4096);
	CHECK(fcntl(p[6][1], F_SETPIPE_SZ, 1 << 18));
	for (int i = 0; i < 16; i++)
		put(6, 0, 3 * 4096), put(6, O_DIRECT, 1 + i);
	put(7, O_DIRECT, 9), put(7, O_DIRECT, 9), put(7, 0, 5000), put(7, 0, 3);
	CHECK(fcntl(p[3][1], F_SETFL, O_NONBLOCK)), CHECK(fcntl(p[4][1], F_SETFL, O_NONBLOCK | O_DIRECT));
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	for (int i = 0; i < N - 1; i++)
		CHECK(pipe2(p[i], O_NONBLOCK));
	CHECK(mkfifo("fifo", 0600));
	p[N - 1][0] = CHECK(open("fifo", O_RDONLY | O_NONBLOCK)), p[N - 1][1] = CHECK(open("fifo", O_WRONLY | O_NONBLOCK));
	for (size_t i = 0; i < sizeof buf; i++)
		buf[i] = i * 11 + i / 4096;
	made();
	do {
		for (int i = 0, left; i < N; i++) {
			CHECK(ioctl(p[i][0], FIONREAD, &left));
			obs("%d has %d, flags %o", i, left, fcntl(p[i][1], F_GETFL));
		}
	} while (savepoint());
	// What is written now is added to plain data, and to no packet.
	for (int i = 3; i < 5; i++)
		CHECK(write(p[i][1], "more", 4)), take(i, 64);
	for (int i = 0; i < N; i++)
		take(i, 1);
	savepoint();
	return 0;
}
