// Connections that wait to be accepted, with files that are in no process, or of which
// processes have another open file: pipes, memfds, FIFOs, devices, directories.
#include "unix.h"
#include <sys/signalfd.h>
#include <mqueue.h>
#include <sys/file.h>

static int fds[32], n;

static int keep(int fd) { return fds[n++] = CHECK(fd); }

// again opens a file anew, as another open file of the same inode.
static int again(int fd, int flags) {
	char path[40];
	sprintf(path, "/proc/self/fd/%d", fd);
	return CHECK(open(path, flags));
}

static void show(const char *what, int fd) {
	char b[5000] = "";
	ssize_t r = read(fd, b, sizeof b - 1);
	obs("%s: %zd %d %.40s %.10s", what, r, r < 0 ? errno : 0, b, r > 20 ? b + r - 10 : "");
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	int l = add("door", listening(SOCK_STREAM, NAME("door"))), c = add("client", client(SOCK_STREAM, NAME("door"))), p[2], held[2], half[2];
	char big[5000];
	memset(big, 'b', sizeof big);
	// 0, 1: a pipe that only the message has, of another size, with much and with little in it.
	CHECK(pipe2(p, O_NONBLOCK)), keep(p[0]), keep(p[1]);
	CHECK(fcntl(p[1], F_SETPIPE_SZ, 1 << 18)), CHECK(write(p[1], big, sizeof big)), CHECK(write(p[1], "end", 3)), CHECK(read(p[0], big, 1000));
	// 2: an end whose other one is closed; 3: packets.
	CHECK(pipe2(p, O_NONBLOCK)), keep(p[0]), CHECK(write(p[1], "left", 4)), CHECK(close(p[1]));
	CHECK(pipe2(p, O_NONBLOCK | O_DIRECT)), keep(p[0]), CHECK(write(p[1], "one", 3)), CHECK(write(p[1], "two", 3)), CHECK(close(p[1]));
	// 4: an end whose other one this process has; 5: a third one.
	CHECK(pipe2(held, O_NONBLOCK)), keep(held[1]), CHECK(write(held[1], "held", 4)), keep(again(held[1], O_WRONLY | O_APPEND));
	// 6, 7: a memfd, with a hole, and once more; 8: one that this process has otherwise; 9: sealed.
	int m = keep(CHECK(memfd_create("lonely", MFD_ALLOW_SEALING)));
	CHECK(pwrite(m, "begin", 5, 0)), CHECK(pwrite(m, "far away", 8, 3 << 20)), CHECK(fchmod(m, 0640)), CHECK(fchown(m, 5, 6)), CHECK(lseek(m, 3 << 20, SEEK_SET));
	CHECK(fallocate(m, FALLOC_FL_KEEP_SIZE, 4 << 20, 8192));
	keep(again(m, O_RDONLY));
	int mine = CHECK(memfd_create("mine", 0));
	CHECK(write(mine, "mine", 4)), keep(again(mine, O_RDWR | O_NONBLOCK));
	m = keep(CHECK(memfd_create("", MFD_ALLOW_SEALING)));
	CHECK(write(m, "sealed", 6)), CHECK(fcntl(m, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_WRITE)), CHECK(lseek(m, 0, SEEK_SET));
	// 10, 11: both ends of a FIFO; 12: a deleted file that this process has otherwise; 13: a
	// directory; 14, 15: devices; 16: signals.
	CHECK(mkfifo("fifo", 0600)), keep(open("fifo", O_RDONLY | O_NONBLOCK)), keep(open("fifo", O_WRONLY)), CHECK(write(fds[n - 1], "through", 7));
	int gone = CHECK(open("gone", O_RDWR | O_CREAT, 0600));
	CHECK(write(gone, "still here", 10)), keep(again(gone, O_RDONLY)), CHECK(lseek(fds[n - 1], 6, SEEK_SET)), CHECK(unlink("gone"));
	CHECK(mkdir("d", 0700)), keep(open("d", O_RDONLY | O_DIRECTORY)), keep(open("/dev/null", O_RDWR)), keep(open("/dev/zero", O_RDONLY | O_NONBLOCK));
	sigset_t set;
	sigemptyset(&set), sigaddset(&set, SIGUSR1), sigaddset(&set, SIGRTMAX), CHECK(sigprocmask(SIG_BLOCK, &set, NULL));
	keep(signalfd(-1, &set, SFD_NONBLOCK));
	// 17 to 19: message queues, one of which this process has otherwise.
	char only[40], mine_too[40];
	struct mq_attr room = {0, 4, 20, 0};
	sprintf(only, "/glis-only-%d", getpid()), sprintf(mine_too, "/glis-mine-%d", getpid());
	keep(mq_open(only, O_RDWR | O_CREAT | O_NONBLOCK | O_CLOEXEC, 0600, &room)), CHECK(mq_send(fds[n - 1], "first", 5, 1));
	keep(mq_open(only, O_WRONLY));
	int queue = CHECK(mq_open(mine_too, O_RDWR | O_CREAT | O_NONBLOCK, 0640, &room));
	keep(mq_open(mine_too, O_RDONLY | O_NONBLOCK));
	// 20: a memfd that is mapped here; 21: the same anew.
	m = keep(CHECK(memfd_create("mapped", 0)));
	CHECK(ftruncate(m, 8192)), CHECK(lseek(m, 4096, SEEK_SET)), keep(again(m, O_RDONLY));
	char *map = CHECK(mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, m, 0));
	strcpy(map + 4096, "by memory");
	// 22: a file that is locked by another open one of this process.
	int locked = CHECK(open("locked", O_RDWR | O_CREAT, 0600));
	CHECK(flock(locked, LOCK_EX)), CHECK(fcntl(locked, F_SETLK, &(struct flock){.l_type = F_WRLCK, .l_len = 5})), keep(open("locked", O_RDWR));
	with(c, "files", 5, fds, n, NULL);
	// An end in one connection, and one in another.
	int d = add("second", client(SOCK_STREAM, NAME("door"))), e = add("third", client(SOCK_STREAM, NAME("door")));
	CHECK(pipe(half)), CHECK(write(half[1], "halves", 6));
	with(d, "half", 4, half, 1, NULL), with(e, "half", 4, half + 1, 1, NULL);
	close(half[0]), close(half[1]);
	for (int i = 0; i < n; i++)
		CHECK(close(fds[i]));
	do
		look_all(), obs("mapped: %s", map + 4096);
	while (savepoint());

	int s = CHECK(accept(l, NULL, NULL)), got[32];
	char data[20], control[CMSG_SPACE(sizeof got)];
	struct iovec v = {data, sizeof data};
	struct msghdr h = {NULL, 0, &v, 1, control, sizeof control, 0};
	MUST(CHECK(recvmsg(s, &h, 0)) == 5 && CMSG_FIRSTHDR(&h)->cmsg_len == CMSG_LEN(n * sizeof(int)));
	memcpy(got, CMSG_DATA(CMSG_FIRSTHDR(&h)), n * sizeof(int));
	for (int i = 0; i < n; i++) {
		struct stat st;
		CHECK(fstat(got[i], &st));
		obs("%d: mode %o of %d:%d, size %lld, flags %o, at %lld", i, st.st_mode, st.st_uid, st.st_gid, S_ISDIR(st.st_mode) ? 0LL : (long long)st.st_size, fcntl(got[i], F_GETFL), (long long)lseek(got[i], 0, SEEK_CUR));
	}
	obs("size %d", fcntl(got[0], F_GETPIPE_SZ));
	show("pipe", got[0]), CHECK(write(got[1], "more", 4)), show("pipe", got[0]), close(got[1]), show("its end", got[0]);
	show("closed", got[2]), show("closed", got[2]), show("packet", got[3]), show("packet", got[3]), show("packet", got[3]);
	CHECK(write(got[4], "+", 1)), CHECK(write(got[5], "!", 1)), show("held", held[0]), close(held[1]), close(got[4]), show("held", held[0]), close(got[5]), show("held", held[0]);
	show("memfd", got[6]), show("again", got[7]), CHECK(pwrite(got[6], "B", 1, 0)), CHECK(lseek(got[7], 0, SEEK_SET)), show("again", got[7]);
	CHECK(pwrite(got[8], "M", 1, 0)), CHECK(lseek(mine, 0, SEEK_SET)), show("mine", mine);
	show("mapped", got[20]), CHECK(pwrite(got[20], "By", 2, 4096)), obs("mapped: %s", map + 4096), strcpy(map, "again"), show("anew", got[21]);
	errno = 0, obs("locked: %d %d", flock(got[22], LOCK_SH | LOCK_NB), errno), CHECK(flock(locked, LOCK_UN)), CHECK(flock(got[22], LOCK_SH | LOCK_NB));
	show("sealed", got[9]), obs("seals %x, write %zd", fcntl(got[9], F_GET_SEALS), write(got[9], "x", 1));
	show("fifo", got[10]), CHECK(write(got[11], "more", 4)), show("fifo", got[10]);
	CHECK(pwrite(gone, "!", 1, 9)), show("gone", got[12]);
	CHECK(fchmodat(got[13], ".", 0711, 0)), obs("null %zd, zero %zd", write(got[14], "x", 1), read(got[15], data, 3));
	struct signalfd_siginfo info;
	CHECK(raise(SIGUSR1)), CHECK(read(got[16], &info, sizeof info)), obs("signal %u", info.ssi_signo);
	char text[20];
	CHECK(mq_send(got[18], "second", 6, 0)), CHECK(mq_send(queue, "mine", 4, 0));
	for (int i = 17; i < 20; i++) {
		long r = mq_receive(got[i], text, sizeof text, NULL);
		obs("queue %d: %ld %.*s", i, r, r < 0 ? 0 : (int)r, text);
	}
	obs("send %d", mq_send(got[19], "x", 1, 0) < 0 ? errno : 0);
	CHECK(mq_unlink(only)), CHECK(mq_unlink(mine_too));
	for (int i = 0; i < 2; i++) {
		char one[CMSG_SPACE(sizeof(int))];
		h = (struct msghdr){NULL, 0, &v, 1, one, sizeof one, 0};
		s = CHECK(accept(l, NULL, NULL)), CHECK(recvmsg(s, &h, 0)), memcpy(half + i, CMSG_DATA(CMSG_FIRSTHDR(&h)), sizeof(int));
	}
	CHECK(write(half[1], "!", 1)), show("halves", half[0]);
	savepoint();
	return 0;
}
