// Unix sockets of a task with another root directory (chroot(2)): bound before it went
// there, as services do that shut themselves in, and behind it; some of whose files were
// renamed since, or have another name.
#include "unix.h"

static const char *paths[] = {"outer", "before", "twice", "second", "inner", "moved", "away", "relative", "linked", "other"};

// tell notes what is at each path, and which sockets get what is sent there.
static void tell(void) {
	for (unsigned i = 0; i < sizeof paths / sizeof *paths; i++) {
		struct stat st;
		struct sockaddr_un un;
		char path[40], c;
		socklen_t n = address(&un, path, snprintf(path, sizeof path, "/%s", paths[i]) + 1);
		if (lstat(path, &st)) {
			obs("%s: %s", path, strerror(errno));
			continue;
		}
		int s = CHECK(socket(AF_UNIX, SOCK_DGRAM, 0)), stream = connect(s, (void *)&un, n);
		obs("%s: mode %o, links %d, %s", path, st.st_mode, (int)st.st_nlink, stream ? strerror(errno) : "connected");
		if (!stream)
			CHECK(write(s, "x", 1));
		else
			close(s), s = client(SOCK_STREAM, path, n - offsetof(struct sockaddr_un, sun_path));
		for (int k = 0; k < sks; k++) {
			int at = stream && option(sk[k].fd, SO_ACCEPTCONN) == 1 ? accept4(sk[k].fd, NULL, NULL, SOCK_NONBLOCK) : -1;
			if (at >= 0 || recv(sk[k].fd, &c, 1, MSG_DONTWAIT) == 1)
				obs("%s: reaches %s", path, sk[k].name);
			if (at >= 0)
				close(at);
		}
		close(s);
	}
	for (int k = 0; k < sks; k++) {
		struct sockaddr_un un;
		socklen_t n = sizeof un;
		CHECK(getsockname(sk[k].fd, (void *)&un, &n));
		obs("%s: %s%s", sk[k].name, *un.sun_path == '/' ? "absolute " : "", strrchr(un.sun_path, '/') ?: un.sun_path);
	}
}

static const char *outside(const char *name) {
	static char path[108];
	MUST(snprintf(path, sizeof path, "%s/%s", ctl_dir, name) < (int)sizeof path);
	return path;
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	umask(0);
	ctl_party("jailed");
	pid_t pid = CHECK(fork());
	if (!pid) {
		ctl_child("jailed");
		add("outer", listening(SOCK_STREAM, NAME(outside("outer"))));
		add("before", bound(SOCK_DGRAM, NAME("before")));
		add("twice", bound(SOCK_DGRAM, NAME(outside("twice")))), CHECK(link("twice", "second"));
		fcntl(sk[0].fd, F_SETFL, O_NONBLOCK), CHECK(chmod("outer", 0640));
		CHECK(chroot(ctl_dir)), CHECK(chdir("/"));
		*ctl_dir = 0;
		add("inner", listening(SOCK_STREAM, NAME("/inner"))), fcntl(sk[3].fd, F_SETFL, O_NONBLOCK);
		add("moved", bound(SOCK_DGRAM, NAME("/moved"))), CHECK(rename("/moved", "/away"));
		add("relative", bound(SOCK_DGRAM, NAME("relative")));
		add("linked", bound(SOCK_DGRAM, NAME("/linked"))), CHECK(link("/linked", "/other"));
		do
			tell();
		while (savepoint());
		_exit(0);
	}
	do
		obs("outside");
	while (savepoint());
	reap(pid);
	return 0;
}
