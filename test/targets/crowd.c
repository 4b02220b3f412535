// A target that takes long to dump: MiB of memory, mappings and threads, as
// many as the arguments say. One thread writes, every millisecond, how often it
// has done so to the file "heart". Runs until it is killed.
#include "ctl.h"
#include <pthread.h>

static void *idle(void *arg) {
	for (;;)
		pause();
	return arg;
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	long mib = atol(argv[1]), maps = atol(argv[2]), threads = atol(argv[3]);
	char *mem = CHECK(mmap(NULL, (mib << 20) + 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	for (long i = 0; i < mib << 20; i += 4096)
		*(long *)(mem + i) = i + 1;
	long page = 4096;
	char *many = CHECK(mmap(NULL, (maps + 1) * page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	for (long i = 0; i < maps; i += 2)
		OK(mprotect(many + i * page, page, PROT_READ | PROT_WRITE));
	pthread_attr_t small;
	OK(pthread_attr_init(&small));
	OK(pthread_attr_setstacksize(&small, 1 << 15));
	for (long i = 0; i < threads; i++) {
		pthread_t th;
		OK(pthread_create(&th, &small, idle, NULL));
	}
	int fd = CHECK(open("heart", O_WRONLY | O_CREAT, 0644));
	for (long beat = 1;; beat++) {
		char text[32];
		snprintf(text, sizeof text, "%20ld\n", beat);
		CHECK(pwrite(fd, text, 21, 0));
		nanosleep(&(struct timespec){0, 1000000}, NULL);
	}
}
