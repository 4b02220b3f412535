// A process of two threads. With "set", each gives itself as much state of its
// own as it can; with "plain", none. It says "ready TID" and sleeps.
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#define CHECK(x) ({ long r_ = (x); if (r_ == -1) { fprintf(stderr, "%s: %s\n", #x, strerror(errno)); _exit(1); } r_; })
static int set;
static char altstack[65536];
static pthread_barrier_t ready;

static void queue(int sig, int value, int thread) {
	siginfo_t si = {.si_signo = sig, .si_code = SI_QUEUE, .si_pid = getpid()};
	si.si_value.sival_int = value;
	if (thread)
		CHECK(syscall(SYS_rt_tgsigqueueinfo, getpid(), gettid(), sig, &si));
	else
		CHECK(syscall(SYS_rt_sigqueueinfo, getpid(), sig, &si));
}

static void give_up_root(void) {
	struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct d[2] = {};
	CHECK(prctl(PR_CAPBSET_DROP, CAP_SYS_MODULE));
	CHECK(syscall(SYS_setgroups, 3, (gid_t[]){5, 77, 4000000}));
	CHECK(prctl(PR_SET_KEEPCAPS, 1));
	CHECK(syscall(SYS_setresgid, 100, 101, 102));
	CHECK(syscall(SYS_setresuid, 1000, 1001, 1002));
	d[0].permitted = d[0].effective = 1 << CAP_CHOWN | 1 << CAP_SETUID | 1 << CAP_SETGID | 1 << CAP_SETPCAP;
	d[0].inheritable = 1 << CAP_CHOWN | 1 << CAP_NET_RAW;
	CHECK(syscall(SYS_capset, &h, d));
	CHECK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_CHOWN, 0, 0));
	syscall(SYS_setfsuid, 1002);
	syscall(SYS_setfsgid, 102);
	CHECK(prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP | SECBIT_NO_CAP_AMBIENT_RAISE | SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED));
	d[0].permitted = 1 << CAP_CHOWN | 1 << CAP_SETUID;
	d[0].effective = 1 << CAP_CHOWN;
	CHECK(syscall(SYS_capset, &h, d));
	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	CHECK(prctl(PR_SET_PDEATHSIG, SIGUSR2));
}

static void *thread(void *arg) {
	sigset_t all;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, NULL);
	if (set) {
		CHECK(prctl(PR_SET_NAME, "a) S (b"));
		CHECK(sigaltstack(&(stack_t){.ss_sp = altstack, .ss_size = sizeof altstack, .ss_flags = 1U << 31}, NULL));
		CHECK(prctl(PR_SET_TIMERSLACK, 123456));
		CHECK(setpriority(PRIO_PROCESS, gettid(), 7));
		CHECK(sched_setscheduler(0, SCHED_BATCH | SCHED_RESET_ON_FORK, &(struct sched_param){0}));
		cpu_set_t one;
		CPU_ZERO(&one);
		CPU_SET(0, &one);
		CHECK(sched_setaffinity(0, sizeof one, &one));
		CHECK(personality(ADDR_NO_RANDOMIZE | STICKY_TIMEOUTS));
		CHECK(syscall(SYS_ioprio_set, 1, 0, 3 << 13 | 2));
		if (prctl(PR_GET_SPECULATION_CTRL, 0, 0, 0, 0) & 1)
			CHECK(prctl(PR_SET_SPECULATION_CTRL, 0, 4, 0, 0));
		syscall(SYS_set_mempolicy, 1 /* MPOL_PREFERRED */, (unsigned long[]){1, 0}, 65);
		CHECK(prctl(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_EARLY, 0, 0));
		prctl(67 /* PR_SET_MEMORY_MERGE */, 1, 0, 0, 0);
		CHECK(prctl(PR_SET_TSC, PR_TSC_SIGSEGV, 0, 0, 0));
		queue(SIGRTMIN + 1, 41, 1);
		queue(SIGRTMIN + 1, 42, 1);
		queue(SIGUSR2, 43, 1);
		give_up_root();
	}
	pthread_barrier_wait(&ready);
	for (;;)
		pause();
}

static void file(const char *path, const char *text) {
	int fd = CHECK(open(path, O_WRONLY));
	CHECK(write(fd, text, strlen(text)));
	close(fd);
}

static void handler(int sig) {}

static void process(void) {
	struct sigaction sa = {.sa_handler = handler, .sa_flags = SA_ONSTACK | SA_RESTART | SA_NODEFER};
	sigaddset(&sa.sa_mask, SIGHUP);
	sigaddset(&sa.sa_mask, SIGRTMAX);
	CHECK(sigaction(SIGUSR1, &sa, NULL));
	CHECK(sigaction(SIGRTMAX, &sa, NULL));
	signal(SIGPIPE, SIG_IGN);
	signal(SIGWINCH, SIG_IGN);
	queue(SIGRTMIN + 3, 7, 0);
	queue(SIGTERM, 8, 0);
	CHECK(raise(SIGWINCH)); // blocked, so it waits though it is ignored
	CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1));
	CHECK(syscall(SYS_membarrier, 1 << 4, 0, 0));
	struct itimerval it[] = {{{1000, 500}, {5000, 0}}, {{7, 0}, {4000, 250000}}, {{0, 0}, {3000, 1}}};
	for (int i = 0; i < 3; i++)
		CHECK(setitimer(i, &it[i], NULL));
	CHECK(setrlimit(RLIMIT_NOFILE, &(struct rlimit){100, 200}));
	CHECK(setrlimit(RLIMIT_CORE, &(struct rlimit){3, 4096}));
	file("/proc/self/oom_score_adj", "321");
	file("/proc/self/coredump_filter", "0x7");
	CHECK(sched_setscheduler(0, SCHED_FIFO, &(struct sched_param){3}));
	CHECK(prctl(PR_SET_NAME, "main) R"));
	umask(027);
}

int main(int argc, char **argv) {
	set = argc > 1 && !strcmp(argv[1], "set");
	sigset_t all;
	sigfillset(&all);
	CHECK(sigprocmask(SIG_SETMASK, &all, NULL));
	pthread_barrier_init(&ready, NULL, 2);
	pthread_t th;
	if (pthread_create(&th, NULL, thread, NULL))
		return 1;
	pthread_barrier_wait(&ready);
	if (set)
		process();
	printf("ready\n");
	fflush(stdout);
	for (;;)
		pause();
}
