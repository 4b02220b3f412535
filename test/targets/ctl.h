// The save point protocol of internal/testkit, for C targets.
//
//     int main(int argc, char **argv) {
//         ctl_init(argc, argv);
//         ... make the state ...
//         do { ... obs("what is seen"); } while (savepoint());
//         return 0;
//     }
//
// A child calls ctl_child(NAME) and runs the same loop; the parent counts it
// with ctl_party(NAME). Waiting is stat and nanosleep: no descriptor, signal
// or mapping of the protocol exists while the program is being saved.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char ctl_dir[256], ctl_name[32] = "root", ctl_party_name[512][32];
static int ctl_parties, ctl_gen;
static volatile int ctl_done; // savepoint has returned 0
static char ctl_buf[1 << 16];
static size_t ctl_len;

static const char *ctl_path(char *buf, const char *what, const char *who) {
	if (who)
		snprintf(buf, 400, "%s/%s.%d.%s", ctl_dir, what, ctl_gen, who);
	else if (*what == 'e')
		snprintf(buf, 400, "%s/%s", ctl_dir, what);
	else
		snprintf(buf, 400, "%s/%s.%d", ctl_dir, what, ctl_gen);
	return buf;
}

static void ctl_write(const char *path, const char *text, size_t len) {
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
	if (fd < 0 || write(fd, text, len) != (ssize_t)len)
		_exit(98);
	close(fd);
}

__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *fmt, ...) {
	char path[400], msg[512];
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(msg, sizeof msg - 1, fmt, ap);
	va_end(ap);
	msg[n] = '\n';
	ctl_write(ctl_path(path, "error", NULL), msg, n + 1);
	_exit(99);
}

#define CHECK(x) ({ __typeof__(x) r_ = (x); \
	if ((intptr_t)r_ == -1) \
		die("%s:%d: %s: %s", __FILE__, __LINE__, #x, strerror(errno)); \
	r_; })
#define OK(x) do { int e_ = (x); \
	if (e_) die("%s:%d: %s: %s", __FILE__, __LINE__, #x, strerror(e_)); } while (0)
#define MUST(x) do { if (!(x)) die("%s:%d: not true: %s", __FILE__, __LINE__, #x); } while (0)

// obs notes a line that must equal the native run's; with a leading "=" it
// must only stay the same within one run.
__attribute__((unused, format(printf, 1, 2))) static void obs(const char *fmt, ...) {
	va_list ap;
	va_start(ap, fmt);
	ctl_len += vsnprintf(ctl_buf + ctl_len, sizeof ctl_buf - ctl_len, fmt, ap);
	va_end(ap);
	if (ctl_len + 1 >= sizeof ctl_buf)
		die("observation too long");
	ctl_buf[ctl_len++] = '\n';
}

static int ctl_exists(const char *what, const char *who) {
	char path[400];
	struct stat st;
	return stat(ctl_path(path, what, who), &st) == 0;
}

static void ctl_await(const char *what, const char *who) {
	while (!ctl_exists(what, who)) {
		if (ctl_exists("error", NULL))
			_exit(97); // another task of the target has failed
		nanosleep(&(struct timespec){0, 1000000}, NULL);
	}
}

static void ctl_init(int argc, char **argv) {
	snprintf(ctl_dir, sizeof ctl_dir, "%s", argv[argc - 1]);
}

__attribute__((unused)) static void ctl_party(const char *name) {
	snprintf(ctl_party_name[ctl_parties++], 32, "%s", name);
}

__attribute__((unused)) static void ctl_child(const char *name) {
	snprintf(ctl_name, sizeof ctl_name, "%s", name);
	ctl_parties = 0;
	ctl_len = 0;
}

// savepoint writes down what was noted, waits until the test lets it go on,
// and returns 0 when the program is to end.
__attribute__((unused)) static int savepoint(void) {
	char path[400];
	ctl_write(ctl_path(path, "obs", ctl_name), ctl_buf, ctl_len);
	ctl_len = 0;
	for (int i = 0; i < ctl_parties; i++)
		ctl_await("at", ctl_party_name[i]);
	int root = strcmp(ctl_name, "root") == 0, end = ctl_exists("end", NULL);
	// Made without opening it: who sees the file must not find it open.
	if (mknod(ctl_path(path, "at", root ? NULL : ctl_name), S_IFREG | 0666, 0) && errno != EEXIST)
		_exit(98);
	if (end) {
		ctl_done = 1;
		return 0;
	}
	ctl_await("go", NULL);
	ctl_gen++;
	return 1;
}

// ctl_asleep waits until every other thread sleeps in the kernel, or has ended.
__attribute__((unused)) static void ctl_asleep(void) {
	char path[400], text[512];
	DIR *d = opendir("/proc/self/task");
	for (struct dirent *e; (e = readdir(d));) {
		if (*e->d_name == '.' || atoi(e->d_name) == gettid())
			continue;
		snprintf(path, sizeof path, "/proc/self/task/%s/stat", e->d_name);
		for (char state = 0; state != 'S';) {
			int fd = open(path, O_RDONLY | O_CLOEXEC);
			if (fd < 0 && errno == ENOENT)
				break;
			ssize_t len = read(CHECK(fd), text, sizeof text - 1);
			close(fd);
			if (len < 0 && errno == ESRCH)
				break;
			text[CHECK(len)] = 0;
			state = strrchr(text, ')')[2];
			nanosleep(&(struct timespec){0, 1000000}, NULL);
		}
	}
	closedir(d);
}

// ctl_interrupt stops the process for a moment, as by SIGSTOP and SIGCONT.
__attribute__((unused)) static void ctl_interrupt(void) {
	pid_t child = CHECK(fork());
	if (!child) {
		CHECK(kill(getppid(), SIGSTOP));
		char path[64], text[512], state = 0;
		snprintf(path, sizeof path, "/proc/%d/stat", getppid());
		while (state != 'T') {
			int fd = CHECK(open(path, O_RDONLY | O_CLOEXEC));
			text[CHECK(read(fd, text, sizeof text - 1))] = 0;
			close(fd);
			state = strrchr(text, ')')[2];
			usleep(1000);
		}
		CHECK(kill(getppid(), SIGCONT));
		_exit(0);
	}
	while (waitpid(child, NULL, 0) < 0)
		MUST(errno == EINTR);
}

// fnv hashes memory, to note much of it in one line.
__attribute__((unused)) static uint64_t fnv(const void *p, size_t n) {
	uint64_t h = 0xcbf29ce484222325;
	for (const unsigned char *c = p; n--; c++)
		h = (h ^ *c) * 0x100000001b3;
	return h;
}

// reap ends the target if a child did not exit with 0.
__attribute__((unused)) static void reap(pid_t pid) {
	int st;
	CHECK(waitpid(pid, &st, 0));
	if (st)
		die("child %d ended with status %#x", pid, st);
}
