// Connected unix sockets with names: of listeners that are open, closed,
// deleted; clients of other tasks, users, and processes that have ended; pairs
// that were bound later; sockets whose file was renamed, deleted, or has two
// names.
#include "unix.h"

static char far[300]; // an absolute path

// visit has a child connect a socket, as another user, and end.
static int visit(int type, const char *name, size_t len, int uid, int wait) {
	int fd = CHECK(socket(AF_UNIX, type, 0));
	pid_t pid = CHECK(fork());
	if (!pid) {
		if (uid) {
			CHECK(setgroups(2, (gid_t[]){uid + 2, uid + 3}));
			CHECK(setresgid(-1, uid + 1, -1)), CHECK(setresuid(-1, uid, -1));
		}
		to(fd, name, len);
		_exit(0);
	}
	if (wait)
		CHECK(waitpid(pid, NULL, 0));
	else
		CHECK(waitid(P_PID, pid, NULL, WEXITED | WNOWAIT));
	return fd;
}

// reach notes whether a name leads to a socket, as a client of it.
static void reach(const char *what, int type, const char *name, size_t len) {
	struct sockaddr_un un;
	int fd = CHECK(socket(AF_UNIX, type, 0));
	socklen_t n = address(&un, name, len);
	if (connect(fd, (void *)&un, n)) {
		obs("%s: %s", what, strerror(errno)), close(fd);
		return;
	}
	add(what, fd);
}

// file notes whether the file that a socket is bound to is the one that all its names
// lead to, on the file system of its directory.
static void file(const char *what, int fd, const char *name, const char *second) {
	struct stat its, st, other, dir;
	int at = CHECK(ioctl(fd, SIOCPROTOPRIVATE /* SIOCUNIXFILE */));
	CHECK(fstat(at, &its)), CHECK(lstat(name, &st)), CHECK(lstat(second, &other)), CHECK(stat(".", &dir));
	obs("%s: at %s %d, at %s %d, here %d, links %d, mode %o of %d %d", what, name, its.st_ino == st.st_ino, strrchr(second, '/') ? strrchr(second, '/') : second, its.st_ino == other.st_ino, its.st_dev == dir.st_dev && st.st_dev == dir.st_dev,
		(int)its.st_nlink, its.st_mode, its.st_uid, its.st_gid);
	close(at);
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	umask(0);
	snprintf(far, sizeof far, "%s/far.sock", ctl_dir);
	CHECK(mkdir("d", 0755));

	int l = add("path", listening(SOCK_STREAM, NAME(far)));
	CHECK(chmod(far, 0777));
	add("path client", client(SOCK_STREAM, NAME(far)));
	add("path accepted", accept(l, NULL, NULL));
	add("path visitor", visit(SOCK_STREAM, NAME(far), 0, 1));
	add("path visited", accept(l, NULL, NULL));
	add("path user", visit(SOCK_STREAM, NAME(far), 4000, 1));
	add("path from user", accept(l, NULL, NULL));
	add("path zombie", visit(SOCK_STREAM, NAME(far), 4000, 0));
	add("path from zombie", accept(l, NULL, NULL));

	l = add("abstract", listening(SOCK_STREAM, NAME("\0glis unix\0names")));
	int c = add("abstract client", bound(SOCK_STREAM, NAME("d/client")));
	to(c, NAME("\0glis unix\0names"));
	add("abstract accepted", accept(l, NULL, NULL));
	add("abstract visitor", visit(SOCK_STREAM, NAME("\0glis unix\0names"), 5000, 1));
	add("abstract visited", accept(l, NULL, NULL));

	l = listening(SOCK_STREAM, NAME("d/left"));
	add("left client", client(SOCK_STREAM, NAME("d/left")));
	add("left accepted", accept(l, NULL, NULL));
	close(l);
	l = listening(SOCK_SEQPACKET, NAME("\0glis gone"));
	c = CHECK(socket(AF_UNIX, SOCK_SEQPACKET, 0));
	set(c, SO_PASSCRED, 1); // so it gets a name by itself
	add("gone client", to(c, NAME("\0glis gone")));
	add("gone accepted", accept(l, NULL, NULL));
	close(l);
	l = add("deleted", listening(SOCK_STREAM, NAME("d/deleted")));
	add("deleted client", client(SOCK_STREAM, NAME("d/deleted")));
	add("deleted accepted", accept(l, NULL, NULL));
	CHECK(unlink("d/deleted"));
	l = listening(SOCK_STREAM, NAME("\0glis orphan"));
	c = client(SOCK_STREAM, NAME("\0glis orphan"));
	add("orphan", accept(l, NULL, NULL));
	CHECK(write(c, "last words", 10));
	close(c);
	add("orphan client", client(SOCK_STREAM, NAME("\0glis orphan")));
	CHECK(write(sk[sks - 1].fd, "unread", 6));
	close(CHECK(accept(l, NULL, NULL)));
	close(l);

	int p[2];
	struct sockaddr_un un;
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, p));
	socklen_t n = address(&un, NAME("\0glis late"));
	CHECK(bind(p[0], (void *)&un, n));
	n = address(&un, NAME("d/late"));
	CHECK(bind(p[1], (void *)&un, n));
	CHECK(shutdown(p[0], SHUT_RD));
	add("late", p[0]), add("later", p[1]);

	int renamed = add("renamed", listening(SOCK_STREAM, NAME("d/temporary")));
	CHECK(rename("d/temporary", "d/renamed"));
	add("other name", listening(SOCK_STREAM, NAME("d/first")));
	CHECK(link("d/first", "d/second")), CHECK(unlink("d/first"));
	int linked = add("linked", bound(SOCK_DGRAM, NAME("d/linked")));
	CHECK(chmod("d/linked", 0640)), CHECK(chown("d/linked", 12, 34));
	CHECK(link("d/linked", "other"));

	ctl_party("child");
	pid_t pid = CHECK(fork());
	if (!pid) {
		ctl_child("child");
		for (int i = 0; i < sks; i++)
			close(sk[i].fd);
		sks = 0;
		add("child client", client(SOCK_STREAM, NAME(far)));
		do
			look_all();
		while (savepoint());
		char go;
		CHECK(read(sk[0].fd, &go, 1));
		talk();
		savepoint();
		_exit(0);
	}
	int child = add("from child", accept(sk[0].fd, NULL, NULL));
	ctl_await("at", "child");
	do
		look_all(), file("linked", linked, "d/linked", "other"), file("renamed", renamed, "d/renamed", "d/renamed"), file("path", sk[0].fd, "far.sock", far);
	while (savepoint());
	CHECK(write(child, "!", 1)), CHECK(waitpid(pid, NULL, 0));
	struct stat st, other;
	CHECK(lstat("d/linked", &st)), CHECK(lstat("other", &other));
	obs("linked: mode %o of %d %d, same %d, links %d", st.st_mode, st.st_uid, st.st_gid, st.st_ino == other.st_ino, (int)st.st_nlink);
	obs("left: %d, late %d, deleted %d, temporary %d", access("d/left", 0), access("d/late", 0), access("d/deleted", 0), access("d/temporary", 0));
	obs("first: %d", access("d/first", 0));
	// Who is bound there has another type; of who is closed nobody is.
	for (int i = 0; i < 2; i++) {
		n = address(&un, i ? "d/left" : "d/late", 7);
		int r = connect(CHECK(p[0] = socket(AF_UNIX, SOCK_DGRAM, 0)), (void *)&un, n);
		obs("%s: datagrams %d %s", un.sun_path, r, strerror(errno)), close(p[0]);
	}
	reach("to second", SOCK_STREAM, NAME("d/second"));
	reach("to renamed", SOCK_STREAM, NAME("d/renamed"));
	reach("to abstract", SOCK_STREAM, NAME("\0glis unix\0names"));
	reach("to linked", SOCK_DGRAM, NAME("other"));
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, p));
	n = address(&un, NAME("\0glis late"));
	obs("late: bind %d %s", bind(p[0], (void *)&un, n), strerror(errno));
	n = address(&un, NAME("\0glis gone"));
	obs("gone: bind %d", bind(p[0], (void *)&un, n));
	talk();
	while (waitpid(-1, NULL, 0) > 0)
		;
	savepoint();
	return 0;
}
