// More descriptors than one message can pass (argv[1]), some shared.
#include "ctl.h"
#include <sys/resource.h>

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	int n = atoi(argv[1]), p[2];
	CHECK(setrlimit(RLIMIT_NOFILE, &(struct rlimit){n + 50, n + 50}));
	for (int fd = 3; fd < n; fd++) {
		int got = fd % 5 ? open("file", O_RDWR | O_CREAT, 0600) : dup(fd - 1);
		if (CHECK(got) != fd)
			die("descriptor %d, want %d", got, fd);
		if (fd % 5)
			CHECK(lseek(fd, fd, SEEK_SET));
	}
	CHECK(pipe(p));
	do {
		long sum = 0;
		for (int fd = 3; fd < n; fd++)
			sum = sum * 31 + lseek(fd, 1, SEEK_CUR);
		obs("offsets %lx, pipe %d %d", sum, p[0], p[1]);
	} while (savepoint());
	return 0;
}
