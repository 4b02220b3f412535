// Counts as fast as it can, in memory of its own and in that of the file "steps": a step
// that is taken once more is seen. Runs until it is killed.
#include "ctl.h"

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	int fd = CHECK(open("steps", O_RDWR | O_CREAT | O_CLOEXEC, 0644));
	CHECK(ftruncate(fd, sizeof(long)));
	volatile long *seen = CHECK(mmap(NULL, sizeof *seen, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
	for (long n = 0;; n++) {
		MUST(*seen == n);
		*seen = n + 1;
	}
}
