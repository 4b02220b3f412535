// Processes that may have no memory that is both writable and executable, nor make
// any executable later: one whose children may, and one whose child may not, each
// with two threads and a page that was both before.
#include "ctl.h"
#include <pthread.h>
#ifndef PR_SET_MDWE
#define PR_SET_MDWE 65
#define PR_GET_MDWE 66
#endif

static char *both, *data;
static pthread_barrier_t turn;

static const char *map(int prot) {
	void *p = mmap(NULL, 4096, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return strerror(errno);
	CHECK(munmap(p, 4096));
	return "may be";
}

static void look(void) {
	obs("MDWE %#x", prctl(PR_GET_MDWE, 0, 0, 0, 0));
	obs("both %s, executable %s", map(PROT_READ | PROT_WRITE | PROT_EXEC), map(PROT_READ | PROT_EXEC));
	errno = 0;
	obs("mprotect %d %s", mprotect(data, 4096, PROT_READ | PROT_EXEC), strerror(errno));
	CHECK(mprotect(data, 4096, PROT_READ | PROT_WRITE));
	obs("code returns %d", ((int (*)(void))(void *)both)());
	both[1]++; // mov eax, imm32
	FILE *f = fopen("/proc/self/maps", "r");
	char line[512], flags[8], name[256];
	int n = 0;
	MUST(f);
	while (fgets(line, sizeof line, f)) {
		*name = 0;
		sscanf(line, "%*s %7s %*s %*s %*s %255s", flags, name);
		n += flags[2] == 'x' && !*name;
	}
	fclose(f);
	obs("%d mappings of its own are executable", n);
}

static void *other(void *arg) {
	for (;;) {
		pthread_barrier_wait(&turn);
		if (ctl_done)
			return arg;
		pthread_barrier_wait(&turn);
	}
}

static void run(void) {
	pthread_t t;
	OK(pthread_barrier_init(&turn, NULL, 2));
	OK(pthread_create(&t, NULL, other, NULL));
	do {
		pthread_barrier_wait(&turn);
		look();
		pthread_barrier_wait(&turn);
	} while (savepoint());
	pthread_barrier_wait(&turn);
	OK(pthread_join(t, NULL));
}

static pid_t child(const char *name) {
	pid_t pid = CHECK(fork());
	if (!pid)
		ctl_child(name);
	else
		ctl_party(name);
	return pid;
}

int main(int argc, char **argv) {
	static const unsigned char code[] = {0xb8, 1, 0, 0, 0, 0xc3}; // mov eax, 1; ret
	ctl_init(argc, argv);
	both = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	data = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	MUST(both != MAP_FAILED && data != MAP_FAILED);
	memcpy(both, code, sizeof code);
	if (prctl(PR_SET_MDWE, 3 /* REFUSE_EXEC_GAIN, NO_INHERIT: Linux 6.6 */, 0, 0, 0))
		CHECK(prctl(PR_SET_MDWE, 1, 0, 0, 0));
	pid_t kid = child("kid");
	if (!kid) {
		if (!prctl(PR_GET_MDWE, 0, 0, 0, 0))
			CHECK(prctl(PR_SET_MDWE, 1, 0, 0, 0));
		pid_t grandkid = child("grandkid");
		run();
		if (grandkid)
			reap(grandkid);
		_exit(0);
	}
	pid_t free = child("free");
	run();
	if (!free)
		_exit(0);
	reap(kid);
	reap(free);
	return 0;
}
