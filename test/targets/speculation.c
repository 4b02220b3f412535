// What the CPU may guess (PR_SET_SPECULATION_CTRL), of two threads, one of which has a
// seccomp filter that leaves it as it is (SECCOMP_FILTER_FLAG_SPEC_ALLOW).
#include "ctl.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sys/syscall.h>

static pthread_barrier_t turn;

static void show(const char *who) {
	char path[64], line[400];
	snprintf(path, sizeof path, "/proc/self/task/%ld/status", syscall(SYS_gettid));
	FILE *f = fopen(path, "r");
	MUST(f);
	while (fgets(line, sizeof line, f))
		if (!strncmp(line, "Spec", 4) || !strncmp(line, "Seccomp", 7))
			obs("%s %.*s", who, (int)strcspn(line, "\n"), line);
	fclose(f);
	for (int what = 0; what < 3; what++)
		obs("%s may guess %d: %d", who, what, prctl(PR_GET_SPECULATION_CTRL, what, 0, 0, 0));
}

static void *other(void *none) {
	struct sock_filter code[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
	struct sock_fprog prog = {1, code};
	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, &prog));
	for (;;) {
		pthread_barrier_wait(&turn);
		show("other");
		pthread_barrier_wait(&turn);
	}
	return none;
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	MUST(!pthread_barrier_init(&turn, NULL, 2));
	pthread_t t;
	MUST(!pthread_create(&t, NULL, other, NULL));
	for (int what = 0; what < 3; what++) // which of them there are depends on the CPU
		prctl(PR_SET_SPECULATION_CTRL, what, PR_SPEC_DISABLE, 0, 0);
	do {
		show("first");
		pthread_barrier_wait(&turn);
		pthread_barrier_wait(&turn);
	} while (savepoint());
	return 0;
}
