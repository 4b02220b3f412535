// A connection that waits to be accepted, with files that only its message has and that are
// locked themselves, have a lease, or are watched, as is the directory that they are in. One
// that is locked waits in a socket that is open.
#include "unix.h"
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>

static int fds[32], n, watch;

static int keep(int fd) { return fds[n++] = CHECK(fd); }
static int file(const char *name, int flags) { return CHECK(open(name, flags | O_CREAT, 0640)); }

// again opens a file anew, as another open file of the same inode.
static int again(int fd, int flags) {
	char path[40];
	sprintf(path, "/proc/self/fd/%d", fd);
	return CHECK(open(path, flags));
}

static void range(int fd, short type, long from, long size) { CHECK(fcntl(fd, F_OFD_SETLK, &(struct flock){.l_type = type, .l_start = from, .l_len = size})); }

// heard notes what the watches have told.
static void heard(void) {
	char b[4096];
	ssize_t r = read(watch, b, sizeof b);
	obs("heard: %zd %d", r, r < 0 ? errno : 0);
}

// held notes the locks of a descriptor.
static void held(const char *what, int fd) {
	char path[40], line[200], kind[20] = "none", access[20] = "";
	sprintf(path, "/proc/self/fdinfo/%d", fd);
	FILE *f = fopen(path, "r");
	while (f && fgets(line, sizeof line, f))
		sscanf(line, "lock: %*d: %19s %*s %19s", kind, access);
	fclose(f), obs("%s: held %s %s", what, kind, access);
}

// mayLock notes whether another open file gets a lock.
static void mayLock(const char *what, int fd, int how) {
	int other = again(fd, O_RDONLY | O_NONBLOCK), r = flock(other, how | LOCK_NB);
	obs("%s: another's flock %d: %d", what, how, r ? errno : 0), close(other);
}

// inTheWay notes which range is in the way of another open file.
static void inTheWay(int fd, long from) {
	int other = again(fd, O_RDWR);
	struct flock l = {.l_type = F_WRLCK, .l_start = from};
	CHECK(fcntl(other, F_OFD_GETLK, &l)), close(other);
	obs("in the way from %ld: %d of %ld, %ld, by %d", from, l.l_type, (long)l.l_start, (long)l.l_len, l.l_pid);
}

// asked notes what happens to a lease when somebody wants to write.
static void asked(const char *what, int fd, const char *name) {
	sigset_t s;
	int owner = fcntl(fd, F_GETOWN);
	obs("%s: lease %d, signal %d, owned %d %d", what, fcntl(fd, F_GETLEASE), fcntl(fd, F_GETSIG), owner == getpid(), owner == 0);
	int other = open(name, O_WRONLY | O_NONBLOCK);
	sigpending(&s), obs("%s: another's open: %d, told %d, lease %d", what, other < 0 ? errno : 0, sigismember(&s, SIGIO), fcntl(fd, F_GETLEASE));
	sigemptyset(&s), sigaddset(&s, SIGIO), sigtimedwait(&s, NULL, &(struct timespec){0});
	CHECK(fcntl(fd, F_SETLEASE, F_UNLCK));
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	sigset_t s;
	sigemptyset(&s), sigaddset(&s, SIGIO), CHECK(sigprocmask(SIG_BLOCK, &s, NULL));
	int l = listening(SOCK_STREAM, NAME("door")), c = client(SOCK_STREAM, NAME("door")), pair[2], mine[5];
	// 0 to 2: flock(2), one of them of two; 3: record locks of an open file.
	CHECK(flock(keep(file("alone", O_RDWR)), LOCK_EX));
	CHECK(flock(keep(file("shared", O_RDWR)), LOCK_SH)), CHECK(flock(keep(file("shared", O_RDONLY)), LOCK_SH));
	range(keep(file("ranges", O_RDWR)), F_WRLCK, 10, 10), range(fds[3], F_RDLCK, 30, 0), range(fds[3], F_RDLCK, 5, 1);
	// 4: a deleted file that this process has otherwise; 5: a memfd; 6: a directory; 7: an end of a
	// FIFO, of which this process has one that is locked, too.
	mine[0] = file("gone", O_RDWR), CHECK(flock(keep(again(mine[0], O_RDONLY)), LOCK_SH)), CHECK(unlink("gone"));
	CHECK(flock(keep(memfd_create("locked", 0)), LOCK_EX)), CHECK(write(fds[5], "locked", 6));
	CHECK(mkdir("dir", 0700)), CHECK(flock(keep(open("dir", O_RDONLY | O_DIRECTORY)), LOCK_SH));
	CHECK(mkfifo("fifo", 0600)), mine[1] = CHECK(open("fifo", O_RDWR)), CHECK(flock(mine[1], LOCK_SH)), CHECK(flock(keep(open("fifo", O_RDONLY | O_NONBLOCK)), LOCK_SH));
	// 8 to 10: files that are watched, by their names and by their directory's, and that.
	CHECK(write(keep(file("watched", O_RDWR)), "watched", 7)), CHECK(lseek(fds[8], 3, SEEK_SET));
	CHECK(mkdir("seen", 0700)), keep(file("seen/file", O_WRONLY | O_APPEND | O_NONBLOCK)), CHECK(write(fds[9], "more", 4)), CHECK(flock(fds[9], LOCK_EX)), keep(open("seen", O_RDONLY | O_DIRECTORY));
	// 11 to 13: leases, the first without an owner; the last is another one's.
	CHECK(fcntl(keep(file("reader", O_RDONLY)), F_SETLEASE, F_RDLCK)), CHECK(fcntl(fds[11], F_SETOWN, 0));
	CHECK(fcntl(keep(file("writer", O_RDWR)), F_SETLEASE, F_WRLCK));
	close(file("other", O_RDONLY)), mine[2] = CHECK(open("other", O_RDONLY)), keep(open("other", O_RDONLY)), CHECK(fcntl(mine[2], F_SETLEASE, F_RDLCK));
	// 14 to 18: what has no path is locked, too: an eventfd, an end of a pair of sockets, of a pipe,
	// and a TCP socket.
	CHECK(flock(keep(eventfd(1, 0)), LOCK_SH)), CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair)), CHECK(flock(keep(pair[0]), LOCK_EX)), keep(pair[1]);
	CHECK(pipe(pair)), CHECK(flock(keep(pair[0]), LOCK_SH)), close(pair[1]), CHECK(flock(keep(socket(AF_INET, SOCK_STREAM, 0)), LOCK_EX));
	with(c, "files", 5, fds, n, NULL);
	CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair));
	mine[3] = file("queued", O_RDWR), CHECK(flock(mine[3], LOCK_EX)), range(mine[3], F_WRLCK, 7, 2), with(pair[0], "file", 4, mine + 3, 1, NULL), close(mine[3]);
	mine[4] = file("leased", O_RDWR), CHECK(fcntl(mine[4], F_SETLEASE, F_WRLCK)), with(pair[0], "file", 4, mine + 4, 1, NULL), close(mine[4]);
	for (int i = 0; i < n; i++)
		CHECK(close(fds[i]));
	watch = CHECK(inotify_init1(IN_NONBLOCK));
	CHECK(inotify_add_watch(watch, "watched", IN_ALL_EVENTS)), CHECK(inotify_add_watch(watch, "seen", IN_ALL_EVENTS));
	do
		heard(), held("fifo", mine[1]);
	while (savepoint());

	heard();
	int d = CHECK(accept(l, NULL, NULL));
	char data[20], control[CMSG_SPACE(sizeof fds)];
	struct iovec v = {data, sizeof data};
	struct msghdr h = {NULL, 0, &v, 1, control, sizeof control, 0};
	MUST(CHECK(recvmsg(d, &h, 0)) == 5 && CMSG_FIRSTHDR(&h)->cmsg_len == CMSG_LEN(n * sizeof(int)));
	memcpy(fds, CMSG_DATA(CMSG_FIRSTHDR(&h)), n * sizeof(int));
	for (int i = 0; i < n + 2; i++) {
		if (i >= n)
			h.msg_controllen = CMSG_SPACE(sizeof(int)), CHECK(recvmsg(pair[1], &h, 0)), memcpy(fds + i, CMSG_DATA(CMSG_FIRSTHDR(&h)), sizeof(int));
		struct stat st;
		CHECK(fstat(fds[i], &st));
		obs("%d: mode %o, size %lld, flags %o, at %lld", i, st.st_mode, S_ISDIR(st.st_mode) ? 0LL : (long long)st.st_size, fcntl(fds[i], F_GETFL), (long long)lseek(fds[i], 0, SEEK_CUR));
	}
	mayLock("alone", fds[0], LOCK_SH), mayLock("shared", fds[1], LOCK_SH), mayLock("shared", fds[1], LOCK_EX);
	close(fds[2]), CHECK(flock(fds[1], LOCK_EX | LOCK_NB)), mayLock("shared", fds[1], LOCK_SH);
	for (long from = 0; from < 40; from += 5)
		inTheWay(fds[3], from);
	mayLock("gone", mine[0], LOCK_EX), mayLock("gone", mine[0], LOCK_SH), close(fds[4]), mayLock("gone", mine[0], LOCK_EX);
	mayLock("memfd", fds[5], LOCK_SH), mayLock("dir", fds[6], LOCK_EX), mayLock("dir", fds[6], LOCK_SH), mayLock("queued", fds[n], LOCK_SH), inTheWay(fds[n], 0);
	obs("fifo: %d", flock(mine[1], LOCK_EX | LOCK_NB)), CHECK(flock(mine[1], LOCK_UN)), mayLock("fifo", mine[1], LOCK_EX), close(fds[7]), mayLock("fifo", mine[1], LOCK_EX);
	mayLock("seen/file", fds[9], LOCK_SH);
	for (int i = 14; i < n; i++)
		held("no path", fds[i]);
	asked("reader", fds[11], "reader"), asked("writer", fds[12], "writer"), asked("leased", fds[n + 1], "leased"), asked("other", mine[2], "other");
	CHECK(write(fds[9], "!", 1)), CHECK(fchmod(fds[10], 0711)), heard();
	savepoint();
	return 0;
}
