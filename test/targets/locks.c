// File locks: flock, also shared over fork; record locks of two processes, one of which was
// taken by another one with the same descriptors, which has ended; locks of open file
// descriptions, leases.
#include "ctl.h"
#include <sched.h>
#include <sys/file.h>

static const char *path(const char *name) {
	static char buf[4][400];
	static int n;
	snprintf(buf[n %= 4], 400, "%s/%s", ctl_dir, name);
	return buf[n++];
}

static void record(int fd, int cmd, short type, long start, long len) {
	CHECK(fcntl(fd, cmd, &(struct flock){.l_type = type, .l_start = start, .l_len = len}));
}

enum { ENDED = 300 }; // where who took a lock has ended

// whose tells who would be in the way of a lock for writing.
static void whose(const char *what, int fd, int cmd, long start, long len) {
	struct flock l = {.l_type = F_WRLCK, .l_start = start, .l_len = len};
	CHECK(fcntl(fd, cmd, &l));
	obs("%s at %ld: type %d from %ld, %ld long", what, start, l.l_type, (long)l.l_start, (long)l.l_len);
	if (start != ENDED) // nobody is told then; it is who has it, after a restore
		obs("=%s by %d", what, l.l_type == F_UNLCK ? 0 : l.l_pid);
}

static void child(int shared, int rec) {
	ctl_child("child");
	record(rec, F_SETLK, F_WRLCK, 100, 10);
	record(rec, F_SETLK, F_RDLCK, 105, 2);
	do {
		whose("parent's", rec, F_GETLK, 0, 50), whose("parent's by another", rec, F_GETLK, ENDED, 50);
		obs("shared again %d", flock(shared, LOCK_EX | LOCK_NB));
	} while (savepoint());
	ctl_await("at", NULL); // its locks are looked at until then
	_exit(0);
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	int shared = CHECK(open(path("l.shared"), O_RDWR | O_CREAT, 0600));
	CHECK(flock(shared, LOCK_EX));
	int read1 = CHECK(open(path("l.read"), O_RDONLY | O_CREAT, 0600)), read2 = CHECK(open(path("l.read"), O_RDONLY));
	CHECK(flock(read1, LOCK_SH)), CHECK(flock(read2, LOCK_SH));
	int rec = CHECK(open(path("l.rec"), O_RDWR | O_CREAT, 0600));
	record(rec, F_SETLK, F_RDLCK, 10, 5), record(rec, F_SETLK, F_WRLCK, 1000, 0);
	int by = CHECK(syscall(SYS_clone, CLONE_FILES | SIGCHLD, NULL, NULL, NULL, NULL));
	if (!by)
		record(rec, F_SETLK, F_WRLCK, ENDED + 10, 5), _exit(0);
	reap(by);
	int ofd = CHECK(open(path("l.ofd"), O_RDWR | O_CREAT, 0600)), ofd2 = CHECK(dup(ofd)), other = CHECK(open(path("l.ofd"), O_RDWR));
	record(ofd, F_OFD_SETLK, F_WRLCK, 7, 1);
	int lease = CHECK(open(path("l.lease"), O_RDONLY | O_CREAT, 0600));
	CHECK(fcntl(lease, F_SETLEASE, F_RDLCK));
	int pid = CHECK(fork());
	if (!pid)
		child(shared, rec);
	ctl_party("child");
	ctl_await("obs", "child"); // it has its locks
	do {
		int try = CHECK(open(path("l.shared"), O_RDWR));
		obs("flock by another: %d", flock(try, LOCK_SH | LOCK_NB) ? errno : 0);
		close(try);
		obs("shared ones: %d", flock(read1, LOCK_EX | LOCK_NB) ? errno : 0);
		CHECK(flock(read1, LOCK_SH));
		whose("child's", rec, F_GETLK, 100, 5), whose("child's", rec, F_GETLK, 105, 1), whose("child's", rec, F_GETLK, 107, 100);
		whose("other", other, F_OFD_GETLK, 0, 0), whose("same", ofd2, F_OFD_GETLK, 0, 0);
		obs("lease %d", CHECK(fcntl(lease, F_GETLEASE)));
	} while (savepoint());
	reap(pid);
	return 0;
}
