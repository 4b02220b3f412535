// What targets with unix sockets have in common.
#include "ctl.h"
#include <grp.h>
#include <poll.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

static struct {
	const char *name;
	int fd;
} sk[2000];
static int sks;

// add notes a socket, which is looked at and drained from then on.
static int add(const char *name, int fd) {
	CHECK(fd);
	MUST(sks < 2000);
	sk[sks].name = name;
	return sk[sks++].fd = fd;
}

static socklen_t address(struct sockaddr_un *un, const char *name, size_t len) {
	memset(un, 0, sizeof *un);
	un->sun_family = AF_UNIX;
	memcpy(un->sun_path, name, len);
	return offsetof(struct sockaddr_un, sun_path) + len;
}

// size is that of a name: of an abstract one in its array, of a path with its
// end.
#define NAME(s) s, (*(s) ? strlen(s) + 1 : sizeof(s) - 1)

static int bound(int type, const char *name, size_t len) {
	struct sockaddr_un un;
	int fd = CHECK(socket(AF_UNIX, type, 0));
	socklen_t n = address(&un, name, len);
	CHECK(bind(fd, (void *)&un, n));
	return fd;
}

__attribute__((unused)) static int listening(int type, const char *name, size_t len) {
	int fd = bound(type, name, len);
	CHECK(listen(fd, 8));
	return fd;
}

static int to(int fd, const char *name, size_t len) {
	struct sockaddr_un un;
	socklen_t n = address(&un, name, len);
	CHECK(connect(fd, (void *)&un, n));
	return fd;
}

__attribute__((unused)) static int client(int type, const char *name, size_t len) { return to(CHECK(socket(AF_UNIX, type, 0)), name, len); }

static int option(int fd, int opt) {
	int v = 0;
	socklen_t len = sizeof v;
	return getsockopt(fd, SOL_SOCKET, opt, &v, &len) ? -errno : v;
}

__attribute__((unused)) static void set(int fd, int opt, int v) { CHECK(setsockopt(fd, SOL_SOCKET, opt, &v, sizeof v)); }

static int anew; // see look

static const char *quoted(char *out, const struct sockaddr_un *un, int len) {
	if (anew && len == (int)offsetof(struct sockaddr_un, sun_path) + 6 && !*un->sun_path)
		return strcpy(out, "a name it got by itself");
	len -= (int)offsetof(struct sockaddr_un, sun_path);
	char *p = out;
	for (int i = 0; i < len && i < 108; i++)
		p += sprintf(p, un->sun_path[i] > ' ' && un->sun_path[i] < 127 ? "%c" : "\\%02x", (unsigned char)un->sun_path[i]);
	*p = 0;
	return out;
}

// Processes that were noted, for they have other numbers in every run.
static pid_t known[20];
static int knowns;

static const char *process(pid_t pid) {
	static char name[30];
	snprintf(name, sizeof name, "unknown process");
	if (!pid || pid == getpid())
		snprintf(name, sizeof name, pid ? "this process" : "nobody");
	for (int i = 0; i < knowns; i++)
		if (known[i] == pid)
			snprintf(name, sizeof name, "process %d", i);
	return name;
}

// anew is set when sockets are looked at that weren't there before.

// pidfd tells whether SO_PEERPIDFD is of the process that SO_PEERCRED tells of.
static const char *pidfd(int fd, pid_t of) {
	static char line[100], path[40];
	int got = -1, pid = 0;
	socklen_t len = sizeof got;
	if (getsockopt(fd, SOL_SOCKET, 77 /* SO_PEERPIDFD */, &got, &len))
		return strerror(errno);
	sprintf(path, "/proc/self/fdinfo/%d", got);
	FILE *f = fopen(path, "r");
	while (f && fgets(line, sizeof line, f))
		sscanf(line, "Pid: %d", &pid);
	fclose(f), close(got);
	return pid == of ? "is that" : pid < 0 ? "has ended" : "is another one";
}

// look notes all that a socket tells without changing.
static void look(const char *name, int fd) {
	char own[500], peer[500];
	struct sockaddr_un un;
	struct ucred who = {0};
	gid_t groups[9] = {0};
	int in = -1, out = -1, e = errno;
	socklen_t len = sizeof un;
	CHECK(getsockname(fd, (void *)&un, &len));
	quoted(own, &un, len);
	len = sizeof un;
	if (getpeername(fd, (void *)&un, &len))
		snprintf(peer, sizeof peer, "%s", strerror(errno));
	else
		quoted(peer, &un, len);
	len = sizeof who;
	CHECK(getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len));
	len = sizeof groups;
	int n = getsockopt(fd, SOL_SOCKET, 59 /* SO_PEERGROUPS */, groups, &len) ? -errno : (int)(len / sizeof *groups);
	ioctl(fd, FIONREAD, &in), ioctl(fd, TIOCOUTQ, &out);
	struct pollfd p = {fd, POLLIN | POLLOUT | POLLRDHUP | POLLPRI, 0};
	poll(&p, 1, 0);
	if (getenv("SEED")) // urgent data that a reader steps over stays counted (Linux 6.18); whether it is that, POLLIN tells of those that may get more
		in = in > 0 && (p.revents & (POLLIN | POLLRDHUP)) == POLLIN, out = 0;
	int mark = getenv("SEED") && !(p.revents & POLLIN) ? 0 : sockatmark(fd);
	obs("%s: type %d flags %o, user %d %d groups %d %d %d, in %d out %d events %x mark %d, options %d %d %d %d", name, option(fd, SO_TYPE), fcntl(fd, F_GETFL),
		who.uid, who.gid, n, groups[0], groups[1], in, out > 0, p.revents, mark, option(fd, SO_PASSCRED), option(fd, 76), option(fd, SO_OOBINLINE), option(fd, SO_PEEK_OFF));
	if (anew)
		obs("%s: %s to %s, peer is %s", name, own, peer, process(who.pid));
	else
		obs("=%s: %s to %s, peer is process %d, out %d", name, own, peer, who.pid, out);
	obs("%s: its pidfd: %s", name, pidfd(fd, who.pid));
	errno = e;
}

// connected notes of a socket whether the kernel calls it connected: so it does one of
// datagrams that others are, or were, connected to.
__attribute__((unused)) static void connected(const char *name, int fd) {
	struct stat st;
	char line[300];
	int state = -1, s;
	unsigned long ino;
	CHECK(fstat(fd, &st));
	FILE *f = fopen("/proc/net/unix", "r");
	while (f && fgets(line, sizeof line, f))
		if (sscanf(line, "%*x: %*x %*x %*x %*x %x %lu", (unsigned *)&s, &ino) == 2 && ino == st.st_ino)
			state = s;
	fclose(f);
	obs("%s: in state %d", name, state);
}

__attribute__((unused)) static void look_all(void) {
	for (int i = 0; i < sks; i++)
		look(sk[i].name, sk[i].fd);
}

// sender is a name without what differs from run to run.
static const char *sender(char *out, struct sockaddr_un *un, int len) {
	char all[500], *slash = strrchr(quoted(all, un, len ? len : 2), '/');
	if (strncmp(all, "a name", 6) == 0 || (*all == '\\' && len == (int)offsetof(struct sockaddr_un, sun_path) + 6))
		return "a name it got by itself";
	return strcpy(out, *all == '/' ? slash : all);
}

// take notes one message, with what comes along; 0 at the end of a queue.
static int take(const char *name, int fd, int size) {
	static char data[400000];
	char control[2000], from[500], line[2000] = "";
	struct sockaddr_un un;
	struct iovec v = {data, size};
	struct msghdr m = {&un, sizeof un, &v, 1, control, sizeof control, 0};
	ssize_t n = recvmsg(fd, &m, MSG_DONTWAIT);
	if (n < 0) {
		obs("%s: then %s", name, strerror(errno));
		return 0;
	}
	int p = 0;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
		if (c->cmsg_level != SOL_SOCKET)
			die("control message of level %d", c->cmsg_level);
		if (c->cmsg_type == SCM_RIGHTS) {
			int count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
			p += sprintf(line + p, ", %d files", count);
			for (int i = 0; i < count; i++) {
				int got;
				struct stat st;
				memcpy(&got, CMSG_DATA(c) + i * sizeof got, sizeof got);
				CHECK(fstat(got, &st));
				if (i < 4)
					p += sprintf(line + p, " %o", st.st_mode & S_IFMT);
				if (S_ISSOCK(st.st_mode))
					add("received", got);
				else
					close(got);
			}
		} else if (c->cmsg_type == SCM_CREDENTIALS) {
			struct ucred who;
			memcpy(&who, CMSG_DATA(c), sizeof who);
			p += sprintf(line + p, ", of %s, user %d %d", process(who.pid), who.uid, who.gid);
		} else
			p += sprintf(line + p, ", control %d of %zu", c->cmsg_type, (size_t)c->cmsg_len);
	}
	obs("%s: %zd bytes %016llx from %s flags %x%s", name, n, (unsigned long long)fnv(data, n > size ? size : n), sender(from, &un, m.msg_namelen), m.msg_flags & ~MSG_CMSG_CLOEXEC, line);
	return n > 0 || option(fd, SO_TYPE) == SOCK_DGRAM;
}

// drain reads all that is queued.
static void drain(const char *name, int fd) {
	int error = option(fd, SO_ERROR);
	if (error)
		obs("%s: error %d", name, error);
	for (int i = 0; i < 1000 && take(name, fd, 400000); i++)
		;
}

// talk writes to every socket and drains all.
__attribute__((unused)) static void talk(void) {
	for (int i = 0; i < sks; i++) {
		if (option(sk[i].fd, SO_ACCEPTCONN))
			continue;
		int r = send(sk[i].fd, sk[i].name, strlen(sk[i].name), MSG_DONTWAIT | MSG_NOSIGNAL);
		obs("%s: writes %d %s", sk[i].name, r, r < 0 ? strerror(errno) : "");
	}
	for (int i = 0; i < sks; i++)
		if (!option(sk[i].fd, SO_ACCEPTCONN))
			drain(sk[i].name, sk[i].fd);
}

// with sends data with files and credentials.
__attribute__((unused)) static void with(int fd, const char *data, size_t len, const int *files, int n, const struct ucred *who) {
	char control[2000];
	memset(control, 0, sizeof control);
	struct iovec v = {(void *)data, len};
	struct msghdr m = {NULL, 0, &v, 1, control, 0, 0};
	struct cmsghdr *c = (void *)control;
	if (n) {
		c->cmsg_level = SOL_SOCKET, c->cmsg_type = SCM_RIGHTS, c->cmsg_len = CMSG_LEN(n * sizeof *files);
		memcpy(CMSG_DATA(c), files, n * sizeof *files);
		m.msg_controllen += CMSG_SPACE(n * sizeof *files);
		c = (void *)(control + m.msg_controllen);
	}
	if (who) {
		c->cmsg_level = SOL_SOCKET, c->cmsg_type = SCM_CREDENTIALS, c->cmsg_len = CMSG_LEN(sizeof *who);
		memcpy(CMSG_DATA(c), who, sizeof *who);
		m.msg_controllen += CMSG_SPACE(sizeof *who);
	}
	if (!m.msg_controllen)
		m.msg_control = NULL;
	CHECK(sendmsg(fd, &m, 0));
}
