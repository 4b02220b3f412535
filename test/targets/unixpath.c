// Files of unix sockets that were opened with O_PATH: of a listener of the same task, by
// another user; of one that another task has; bound by way of a symbolic link, renamed, of
// another name; of a socket that is closed; and one that is in the queue of a socket.
#include "unix.h"

static struct {
	const char *path;
	int fd;
} at[16];
static int ats;

static void hold(const char *path, int flags) { at[ats].path = path, at[ats++].fd = CHECK(open(path, O_PATH | O_CLOEXEC | flags)); }

// tell notes whether it is the file that the path leads to, and who answers there.
static void tell(const char *who, const char *path, int fd) {
	struct stat its, st;
	char name[40];
	struct sockaddr_un un;
	CHECK(fstat(fd, &its)), CHECK(lstat(path, &st));
	int s = CHECK(socket(AF_UNIX, SOCK_DGRAM, 0)), flags = CHECK(fcntl(fd, F_GETFL));
	socklen_t n = address(&un, name, snprintf(name, sizeof name, "/proc/self/fd/%d", fd) + 1);
	obs("%s: %s: same %d, mode %o, flags %o, links %d: %s", who, path, its.st_ino == st.st_ino && its.st_dev == st.st_dev, its.st_mode, flags, (int)its.st_nlink, connect(s, (void *)&un, n) ? strerror(errno) : "answers");
	close(s);
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	umask(0);
	CHECK(mkdir("d", 0755)), CHECK(symlink("d", "way"));
	add("stream", listening(SOCK_STREAM, NAME("stream")));
	int user = bound(SOCK_STREAM, NAME("user"));
	CHECK(syscall(SYS_setresuid, -1, 1234, -1)), CHECK(listen(user, 3)), CHECK(syscall(SYS_setresuid, -1, 0, -1));
	add("linked", bound(SOCK_DGRAM, NAME("way/linked"))), add("first", bound(SOCK_DGRAM, NAME("first")));
	CHECK(rename("first", "renamed"));
	add("named", bound(SOCK_DGRAM, NAME("named"))), CHECK(link("named", "other"));
	close(bound(SOCK_DGRAM, NAME("closed")));
	int go[2], end[2], pair[2];
	CHECK(pipe(go)), CHECK(pipe(end)), CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair));
	pid_t pid = CHECK(fork());
	if (!pid) {
		ctl_child("child"), close(end[1]);
		int own = bound(SOCK_DGRAM, NAME("child")), s = CHECK(open("stream", O_PATH)), c2 = CHECK(open("child", O_PATH));
		CHECK(write(go[1], "x", 1));
		do {
			tell("child", "stream", s), tell("child", "child", c2);
		} while (savepoint());
		char last;
		return own < 0 || read(end[0], &last, 1); // when the parent has looked
	}
	ctl_party("child");
	char c;
	CHECK(read(go[0], &c, 1));
	hold("stream", 0), hold("user", 0), hold("way/linked", 0), hold("renamed", O_NOFOLLOW), hold("other", 0), hold("named", 0), hold("closed", 0), hold("child", 0);
	char control[CMSG_SPACE(sizeof(int))] = {0};
	struct iovec io = {&c, 1};
	struct msghdr m = {.msg_iov = &io, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);
	*h = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
	memcpy(CMSG_DATA(h), &at[2].fd, sizeof(int));
	CHECK(sendmsg(pair[0], &m, 0));
	do {
		for (int i = 0; i < ats; i++)
			tell("parent", at[i].path, at[i].fd);
		m.msg_controllen = sizeof control;
		CHECK(recvmsg(pair[1], &m, 0));
		int got;
		memcpy(&got, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof got);
		tell("message", "way/linked", got);
		m.msg_controllen = sizeof control;
		CHECK(sendmsg(pair[0], &m, 0)), close(got);
	} while (savepoint());
	int status;
	close(end[1]);
	CHECK(waitpid(pid, &status, 0));
	return 0;
}
