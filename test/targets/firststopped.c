// A process that was stopped after its first thread has ended: how that has ended is told
// by the thread's own state alone, as the process's is that it was stopped.
#include "ctl.h"
#include <pthread.h>

static int turn[2];

static void *other(void *arg) {
	char b;
	if (read(turn[0], &b, 1) == 1)
		syscall(SYS_exit, 4);
	_exit(99);
	return arg;
}

// state returns the state of a thread of a process, and how it has ended.
static char state(int pid, int tid, int *code) {
	char path[64], text[1024];
	snprintf(path, sizeof path, "/proc/%d/task/%d/stat", pid, tid);
	int fd = CHECK(open(path, O_RDONLY));
	text[CHECK(read(fd, text, sizeof text - 1))] = 0;
	close(fd);
	*code = atoi(strrchr(text, ' '));
	return strrchr(text, ')')[2];
}

static int second(int pid) {
	char path[64];
	int tid = 0;
	snprintf(path, sizeof path, "/proc/%d/task", pid);
	DIR *d = opendir(path);
	MUST(d);
	for (struct dirent *e; (e = readdir(d));)
		if (*e->d_name != '.' && atoi(e->d_name) != pid)
			tid = atoi(e->d_name);
	closedir(d);
	return tid;
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	CHECK(pipe(turn));
	int pid = CHECK(fork()), code, status, tid;
	if (!pid) {
		pthread_t t;
		CHECK(prctl(PR_SET_NAME, "meant-to-stop"));
		OK(pthread_create(&t, NULL, other, NULL));
		syscall(SYS_exit, 3);
	}
	while (state(pid, pid, &code) != 'Z')
		;
	tid = second(pid);
	CHECK(kill(pid, SIGSTOP));
	CHECK(waitpid(pid, &status, WUNTRACED));
	obs("stopped %d", WIFSTOPPED(status));
	while (state(pid, tid, &code) != 'T')
		;
	do {
		char is = state(pid, tid, &code), first = state(pid, pid, &code);
		obs("first %c, ended with %#x, other %c", first, code, is);
	} while (savepoint());
	CHECK(kill(pid, SIGCONT));
	CHECK(write(turn[1], "x", 1));
	do
		CHECK(waitpid(pid, &status, 0));
	while (WIFSTOPPED(status));
	obs("ended %#x", status);
	return 0;
}
