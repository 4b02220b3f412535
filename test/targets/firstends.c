// Processes whose first threads have ended while others go on: one with a child
// like it, with descriptors, a signal that waits for the process, a name, a
// priority, ids, CPUs, a personality, a timer slack and blocked signals of the first
// thread's own.
#include "ctl.h"
#include <pthread.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

static int pipes[2], pair[2], epoll, timer, child;
static pthread_barrier_t turn;
static pid_t second;

// state returns the state of the first thread, and how it has ended.
static char state(int *code) {
	char path[64], text[1024];
	snprintf(path, sizeof path, "/proc/%d/stat", getpid());
	int fd = CHECK(open(path, O_RDONLY));
	text[CHECK(read(fd, text, sizeof text - 1))] = 0;
	close(fd);
	char *at = strrchr(text, ')') + 2, *last = strrchr(text, ' ');
	*code = atoi(last);
	return *at;
}

// noted notes a file that says one thing of the first thread.
static void noted(const char *what) {
	char path[64], text[100];
	snprintf(path, sizeof path, "/proc/%d/%s", getpid(), what);
	int fd = CHECK(open(path, O_RDONLY));
	ssize_t n = CHECK(read(fd, text, sizeof text));
	close(fd);
	obs("%s %.*s", what, (int)n - 1, text);
}

// first notes what /proc and system calls tell of the process by its first thread.
static void first(void) {
	static const char *want[] = {"Name", "State", "Uid", "Gid", "Groups", "CapEff", "CapBnd", "NoNewPrivs", "Threads", "ShdPnd", "SigBlk", "Cpus_allowed"};
	char path[64], line[4096];
	int code, n = 0;
	char is = state(&code);
	obs("state %c, ended with %#x", is, code);
	snprintf(path, sizeof path, "/proc/%d/status", getpid());
	FILE *f = fopen(path, "r");
	MUST(f);
	while (fgets(line, sizeof line, f))
		for (size_t i = 0; i < sizeof want / sizeof *want; i++)
			if (!strncmp(line, want[i], strlen(want[i])) && line[strlen(want[i])] == ':')
				obs("%s%.*s", *want[i] == 'C' && want[i][1] == 'p' ? "=" : "", (int)strcspn(line, "\n"), line);
	fclose(f);
	DIR *d = opendir("/proc/self/task");
	MUST(d);
	for (struct dirent *e; (e = readdir(d));)
		if (*e->d_name != '.')
			obs("=thread %d: %s", n++, e->d_name);
	closedir(d);
	errno = 0;
	obs("nice %d, policy %d", getpriority(PRIO_PROCESS, getpid()), sched_getscheduler(getpid()));
	MUST(errno == 0);
	noted("personality"), noted("timerslack_ns");
}

static void *other(void *arg) {
	CHECK(setpriority(PRIO_PROCESS, 0, 7));
	CHECK(prctl(PR_SET_NAME, "other"));
	for (;;) {
		pthread_barrier_wait(&turn);
		if (ctl_done)
			syscall(SYS_exit, 4);
		pthread_barrier_wait(&turn);
	}
	return arg;
}

static void *lead(void *arg) {
	int code;
	while (state(&code) != 'Z')
		;
	second = gettid();
	do {
		struct epoll_event e = {0};
		char b[8] = "";
		pthread_barrier_wait(&turn);
		first();
		obs("thread %d, parent %d", gettid() == second, child ? getppid() != 1 : 0);
		obs("epoll %d", CHECK(epoll_wait(epoll, &e, 1, 0)));
		CHECK(read(pipes[0], b, 1));
		CHECK(write(pipes[1], b, 1));
		CHECK(recv(pair[1], b, sizeof b, MSG_PEEK));
		struct itimerspec left;
		CHECK(timerfd_gettime(timer, &left));
		obs("read %s, timer %d, umask %o", b, left.it_value.tv_sec > 0, umask(027));
		pthread_barrier_wait(&turn);
	} while (savepoint());
	pthread_barrier_wait(&turn);
	sigset_t set;
	siginfo_t info;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	CHECK(sigtimedwait(&set, &info, &(struct timespec){0}));
	MUST(info.si_value.sival_int == 1234);
	if (child) {
		int status;
		CHECK(waitpid(child, &status, 0));
		MUST(status == 4 << 8); // what its last thread has ended with
		_exit(0);
	}
	syscall(SYS_exit, 4);
	return arg;
}

static void begin(void) {
	pthread_t t;
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	OK(pthread_sigmask(SIG_BLOCK, &set, NULL));
	CHECK(pipe(pipes));
	CHECK(write(pipes[1], "p", 1));
	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair));
	CHECK(send(pair[0], "pair", 4, 0));
	epoll = CHECK(epoll_create1(0));
	CHECK(epoll_ctl(epoll, EPOLL_CTL_ADD, pipes[0], &(struct epoll_event){.events = EPOLLIN}));
	timer = CHECK(timerfd_create(CLOCK_MONOTONIC, 0));
	CHECK(timerfd_settime(timer, 0, &(struct itimerspec){.it_value.tv_sec = 100000}, NULL));
	CHECK(sigqueue(getpid(), SIGUSR1, (union sigval){.sival_int = 1234}));
	umask(027);
	OK(pthread_barrier_init(&turn, NULL, 2));
	OK(pthread_create(&t, NULL, other, NULL));
	OK(pthread_create(&t, NULL, lead, NULL));
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	child = CHECK(fork());
	if (!child) {
		ctl_child("kid");
		begin();
		CHECK(prctl(PR_SET_NAME, "kid"));
		syscall(SYS_exit, 9);
	}
	ctl_party("kid");
	begin();
	CHECK(prctl(PR_SET_NAME, "first"));
	CHECK(setpriority(PRIO_PROCESS, 0, 3));
	CHECK(sched_setscheduler(0, SCHED_BATCH | SCHED_RESET_ON_FORK, &(struct sched_param){0}));
	cpu_set_t cpus;
	CPU_ZERO(&cpus);
	CPU_SET(CHECK(sched_getcpu()), &cpus); // which one, each run has for itself
	CHECK(sched_setaffinity(0, sizeof cpus, &cpus));
	CHECK(personality(ADDR_NO_RANDOMIZE | UNAME26));
	CHECK(prctl(PR_SET_TIMERSLACK, 123456));
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	OK(pthread_sigmask(SIG_BLOCK, &set, NULL));
	CHECK(syscall(SYS_setgroups, 2, (gid_t[]){5, 6}));
	syscall(SYS_exit, 0);
}
