// Queues of more messages than are looked at one by one: of datagrams, also of many
// senders, empty ones and such with credentials and files, one of which nobody else has.
#include "unix.h"

enum { LONG = 700 };

// fill sends to b by a: every seventh message says who sends it, every tenth is empty.
static void fill(int a, int b) {
	struct ucred me = {getpid(), 11, 12};
	char text[30];
	set(a, SO_SNDBUF, 4 << 20), set(b, SO_PASSCRED, 1);
	for (int i = 0; i < LONG; i++) {
		int n = i % 10 ? sprintf(text, "message %d", i) : 0;
		with(a, text, n, NULL, 0, i % 7 ? NULL : &me);
	}
}

// file sends a file along.
static void file(int a, int fd) { with(a, "a file", 6, &fd, 1, NULL); }

static int removed(const char *name) {
	int fd = CHECK(open(name, O_RDWR | O_CREAT, 0600));
	CHECK(unlink(name));
	return fd;
}

// sum reads a queue, and notes what was in it: of many messages a line would be too long.
static void sum(const char *name, int fd) {
	uint64_t all = 0;
	int count = 0, files = 0, named = 0, told = 0;
	for (;; count++) {
		char data[100], control[200];
		struct sockaddr_un un;
		struct iovec v = {data, sizeof data};
		struct msghdr m = {&un, sizeof un, &v, 1, control, sizeof control, 0};
		ssize_t n = recvmsg(fd, &m, MSG_DONTWAIT);
		if (n < 0)
			break;
		all = all * 31 + fnv(data, n) + n;
		named += m.msg_namelen > sizeof un.sun_family;
		for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
			int got;
			struct stat st;
			struct ucred who;
			if (c->cmsg_type == SCM_RIGHTS) {
				memcpy(&got, CMSG_DATA(c), sizeof got);
				CHECK(fstat(got, &st)), close(got);
				files++, all = all * 31 + (st.st_mode & S_IFMT) + st.st_nlink;
			} else if (c->cmsg_type == SCM_CREDENTIALS) {
				memcpy(&who, CMSG_DATA(c), sizeof who);
				told++, all = all * 31 + who.uid + (who.pid == getpid());
			}
		}
	}
	obs("%s: %d messages, %016llx, %d with a name, %d with credentials, %d with a file, then %s", name, count, (unsigned long long)all, named, told, files, strerror(errno));
}

static void sum_all(void) {
	for (int i = 0; i < sks; i++)
		sum(sk[i].name, sk[i].fd);
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	CHECK(mkdir("d", 0755));
	known[knowns++] = getppid();
	int p[2], gone;
	int a = add("a", bound(SOCK_DGRAM, NAME("d/a"))), b = add("b", bound(SOCK_DGRAM, NAME("\0glis long b")));
	int c = add("c", client(SOCK_DGRAM, NAME("d/a")));
	CHECK(write(c, "from c", 6));
	gone = to(bound(SOCK_DGRAM, NAME("d/gone")), NAME("d/a"));
	CHECK(write(gone, "from who has closed", 19)), close(gone);
	to(a, NAME("\0glis long b")), to(b, NAME("d/a"));
	fill(b, a), fill(a, b), file(b, 1);
	for (int type = SOCK_DGRAM; type <= SOCK_SEQPACKET; type += SOCK_SEQPACKET - SOCK_DGRAM) {
		CHECK(socketpair(AF_UNIX, type, 0, p));
		file(p[0], 1), fill(p[0], p[1]), file(p[0], 1);
		add("pair", p[0]), add("pair too", p[1]);
		CHECK(socketpair(AF_UNIX, type, 0, p));
		int only = removed("d/removed");
		fill(p[0], p[1]), file(p[0], only), close(only);
		CHECK(write(p[0], "behind it", 9));
		add("with a file", p[0]), add("with a file too", p[1]);
	}
	do
		look_all();
	while (savepoint());
	sum_all();
	talk();
	savepoint();
	return 0;
}
