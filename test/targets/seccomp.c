// Seccomp filters: two on all threads, one more on a single thread, and more
// in a child that has given up its privileges; strict mode.
#include "ctl.h"
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>

// deny makes a system call fail with an error.
static void deny(int nr, int error, int flags) {
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog p = {sizeof f / sizeof *f, f};
	int r = CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &p));
	if (r)
		die("thread %d can't have the filter", r);
}

static volatile int turn, own;
static void *thread(void *arg) {
	if (*(int *)arg)
		deny(SYS_getppid, 44, 0);
	turn = 1;
	for (;;) {
		while (turn != 2)
			usleep(100);
		own = syscall(SYS_getppid) < 0 ? errno : 0;
		turn = 3;
	}
	return arg;
}

static int called(int nr) { return syscall(nr, 0, 0, 0, 0) < 0 ? errno : 0; }

static int lines(const char *path, const char *key) {
	char line[256];
	int n = -1;
	FILE *f = fopen(path, "re");
	while (fgets(line, sizeof line, f))
		if (!strncmp(line, key, strlen(key)))
			n = atoi(line + strlen(key));
	fclose(f);
	return n;
}

static void child(void) {
	CHECK(setresuid(65534, 65534, 65534));
	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	// Whatever a restore itself needs is forbidden.
	int calls[] = {SYS_prctl, SYS_setresuid, SYS_rt_sigaction, SYS_munmap, SYS_close, SYS_sigaltstack, SYS_rseq, SYS_set_tid_address};
	for (unsigned i = 0; i < sizeof calls / sizeof *calls; i++)
		deny(calls[i], 60 + i, 0);
	ctl_child("child");
	do {
		obs("mode %d filters %d nnp %d, setresuid %d", lines("/proc/self/status", "Seccomp:"), lines("/proc/self/status", "Seccomp_filters:"), lines("/proc/self/status", "NoNewPrivs:"), called(SYS_setresuid));
	} while (savepoint());
	_exit(0);
}

// strict answers each byte with the next one, and may do nothing else.
static int strict(int *in, int *out) {
	int a[2], b[2], pid;
	char c;
	CHECK(pipe(a)), CHECK(pipe(b));
	if (!(pid = CHECK(fork()))) {
		close(a[1]), close(b[0]);
		CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT));
		while (read(a[0], &c, 1) == 1)
			if (c++, write(b[1], &c, 1) != 1)
				break;
		syscall(SYS_exit, 0);
	}
	close(a[0]), close(b[1]);
	*in = b[0], *out = a[1];
	return pid;
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	int more = !strcmp(argv[1], "more");
	pthread_t t;
	int in, out, pid2 = strict(&in, &out);
	deny(SYS_getpgrp, 42, SECCOMP_FILTER_FLAG_LOG);
	OK(pthread_create(&t, NULL, thread, &more));
	while (turn != 1)
		usleep(100);
	if (!more)
		deny(SYS_getsid, 43, SECCOMP_FILTER_FLAG_TSYNC);
	int pid = CHECK(fork());
	if (!pid)
		child();
	ctl_party("child");
	do {
		char c = 'a';
		CHECK(write(out, &c, 1)), CHECK(read(in, &c, 1));
		char state[64];
		snprintf(state, sizeof state, "/proc/%d/status", pid2);
		obs("strict says %c, %d", c, lines(state, "Seccomp:"));
		turn = 2;
		while (turn != 3)
			usleep(100);
		obs("mode %d filters %d, getpgrp %d getsid %d thread's getppid %d", lines("/proc/self/status", "Seccomp:"), lines("/proc/self/status", "Seccomp_filters:"), called(SYS_getpgrp), called(SYS_getsid), own);
		if (!more)
			deny(SYS_getppid, 50 + ctl_gen, SECCOMP_FILTER_FLAG_TSYNC); // for all threads
	} while (savepoint());
	close(out);
	reap(pid), reap(pid2);
	return 0;
}
