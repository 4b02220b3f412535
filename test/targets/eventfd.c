// Eventfds: value, flags, semaphore mode, a shared one.
#include "ctl.h"
#include <sys/eventfd.h>

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	int fd[4];
	int more = !strcmp(argv[1], "more");
	uint64_t v = more ? 0xfffffffffffffffe : 0xfffffffe; // the largest there is, with more
	fd[0] = CHECK(eventfd(7, EFD_NONBLOCK));
	fd[1] = CHECK(eventfd(5, EFD_CLOEXEC | EFD_NONBLOCK | (more ? EFD_SEMAPHORE : 0)));
	fd[2] = CHECK(eventfd(0, 0));
	fd[3] = CHECK(eventfd(0, 0));
	CHECK(write(fd[2], &v, 8));
	int dup = CHECK(fcntl(fd[3], F_DUPFD, 100));
	do {
		for (int i = 0; i < 4; i++)
			obs("%d flags %o fd %d", i, fcntl(fd[i], F_GETFL), fcntl(fd[i], F_GETFD));
		CHECK(read(fd[0], &v, 8));
		obs("counter %llu", (unsigned long long)v);
		CHECK(write(fd[0], &(uint64_t){v + 1}, 8));
		CHECK(read(fd[1], &v, 8)); // one less every time
		if (!more)
			CHECK(write(fd[1], &(uint64_t){5}, 8));
		obs("semaphore gives %llu", (unsigned long long)v);
		CHECK(write(dup, &(uint64_t){3}, 8)), CHECK(read(fd[3], &v, 8));
		obs("shared %llu", (unsigned long long)v);
	} while (savepoint());
	int n = 0;
	while (read(fd[1], &v, 8) == 8)
		n++;
	obs("semaphore had %d", n);
	CHECK(read(fd[2], &v, 8));
	obs("big %llx", (unsigned long long)v);
	savepoint();
	return 0;
}
