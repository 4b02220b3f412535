// Connections that wait to be accepted: in their order, of clients of several
// processes and users, of closed and shut down ones, with data, descriptors,
// credentials and urgent data in them, at listeners of all sorts, one of which is
// in a queue itself.
#include "unix.h"

static char big[150000];

// accept_all takes all that waits.
static void accept_all(const char *name, int l) {
	static char names[60][40];
	static int n;
	CHECK(fcntl(l, F_SETFL, O_NONBLOCK));
	for (int fd; (fd = accept(l, NULL, NULL)) >= 0;) {
		snprintf(names[n], sizeof *names, "%s, accepted %d", name, n);
		add(names[n++], fd);
	}
	obs("%s: then %s", name, strerror(errno));
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	for (int i = 0; i < (int)sizeof big; i++)
		big[i] = i * 7 + i / 256;
	if (strcmp(argv[1], "base") == 0) { // what criu can do, too
		int l = listening(SOCK_STREAM, NAME("\0glis waiting base"));
		add("client", client(SOCK_STREAM, NAME("\0glis waiting base")));
		do
			obs("waits");
		while (savepoint());
		add("server", CHECK(accept(l, NULL, NULL)));
		talk();
		savepoint();
		return 0;
	}
	int p[2], l1 = listening(SOCK_STREAM, NAME("\0glis waiting")), l2 = listening(SOCK_SEQPACKET, NAME("waiting")), l3 = listening(SOCK_STREAM, NAME("gone"));
	int l4 = listening(SOCK_STREAM, NAME("\0glis waiting in a queue"));
	CHECK(unlink("gone.old") && errno != ENOENT ? -1 : 0);
	CHECK(rename("gone", "gone.old"));
	add("file", CHECK(open("/dev/null", O_RDONLY))), sks--;
	int file = sk[sks].fd;
	add("listener", l1), add("packets", l2), add("gone", l3);

	// A client that is closed before the others come, with a name and data.
	int c = to(bound(SOCK_STREAM, NAME("\0glis waiting client")), NAME("\0glis waiting"));
	CHECK(write(c, "last words", 10)), close(c);
	close(client(SOCK_SEQPACKET, NAME("waiting")));
	// One that says nothing, and comes second.
	add("silent", client(SOCK_STREAM, NAME("\0glis waiting")));
	// Data of several sizes, files, urgent data.
	c = add("talker", client(SOCK_STREAM, NAME("\0glis waiting")));
	CHECK(write(c, "hello", 5)), CHECK(write(c, big, 100000));
	with(c, "files", 5, (int[]){file, l2, c}, 3, NULL);
	CHECK(write(c, "after", 5));
	c = add("urgent", client(SOCK_STREAM, NAME("gone.old")));
	CHECK(write(c, "abc", 3)), CHECK(send(c, "X", 1, MSG_OOB)), CHECK(write(c, "def", 3));
	// Half closed ones.
	c = add("finished", client(SOCK_STREAM, NAME("\0glis waiting")));
	CHECK(write(c, "all", 3)), CHECK(shutdown(c, SHUT_WR));
	c = add("deaf", client(SOCK_STREAM, NAME("\0glis waiting"))), CHECK(shutdown(c, SHUT_RD));
	c = add("over", client(SOCK_SEQPACKET, NAME("waiting"))), CHECK(shutdown(c, SHUT_RDWR));
	// One half before it connected, which nobody is told, and one afterwards.
	c = add("by halves", bound(SOCK_SEQPACKET, NAME("\0glis waiting by halves"))), CHECK(shutdown(c, SHUT_RD));
	to(c, NAME("waiting")), CHECK(shutdown(c, SHUT_WR));
	// Messages, empty ones among them.
	c = add("messenger", client(SOCK_SEQPACKET, NAME("waiting")));
	CHECK(write(c, "one", 3)), CHECK(write(c, "", 0)), CHECK(write(c, big, 90000)), CHECK(write(c, "", 0));
	with(c, "as the first", 12, &file, 1, &(struct ucred){1, 17, 18});
	// Another process, with other users and groups.
	ctl_party("child");
	pid_t pid = CHECK(fork());
	if (!pid) {
		ctl_child("child");
		for (int i = 0; i < sks; i++)
			close(sk[i].fd);
		sks = 0, close(file), close(l4);
		CHECK(setgroups(2, (gid_t[]){71, 72})), CHECK(setresgid(-1, 3001, -1)), CHECK(setresuid(-1, 3000, -1));
		c = add("of the child", client(SOCK_STREAM, NAME("\0glis waiting")));
		CHECK(setresuid(-1, 0, -1)), CHECK(setresgid(-1, 0, -1));
		CHECK(write(c, "of the child", 12));
		set(c, SO_PASSCRED, 1);
		do
			look_all();
		while (savepoint());
		char x;
		CHECK(read(c, &x, 1));
		obs("hears %c", x);
		while (read(c, &x, 1) > 0) // until all is looked at
			;
		_exit(0);
	}
	known[knowns++] = pid;
	ctl_await("at", "child");
	// One that somebody has connected who has ended, and whom nobody has waited for.
	c = CHECK(socket(AF_UNIX, SOCK_STREAM, 0));
	pid_t ended = CHECK(fork());
	if (!ended) {
		CHECK(setresuid(-1, 3001, -1));
		to(c, NAME("\0glis waiting")), _exit(3);
	}
	CHECK(waitid(P_PID, ended, &(siginfo_t){0}, WEXITED | WNOWAIT));
	add("of a zombie", c), known[knowns++] = ended;
	// The last one, behind a change of the backlog and of who listens.
	add("late", client(SOCK_STREAM, NAME("\0glis waiting")));
	CHECK(setresuid(-1, 17, -1));
	CHECK(listen(l1, 1));
	CHECK(setresuid(-1, 0, -1));
	CHECK(fcntl(c = CHECK(socket(AF_UNIX, SOCK_STREAM, 0)), F_SETFL, O_NONBLOCK));
	struct sockaddr_un un;
	socklen_t len = address(&un, NAME("\0glis waiting"));
	obs("full: %d %s", connect(c, (void *)&un, len), strerror(errno)), close(c);
	set(l2, SO_PASSCRED, 1);
	// A listener that nobody has open.
	add("nest", client(SOCK_STREAM, NAME("\0glis waiting in a queue")));
	CHECK(write(sk[sks - 1].fd, "nested", 6));
	CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, p));
	with(p[0], "a listener", 10, &l4, 1, NULL);
	close(l4);
	do
		look_all();
	while (savepoint());
	anew = 1;
	accept_all("listener", l1), accept_all("packets", l2), accept_all("gone", l3);
	take("queue", p[1], 100); // adds the listener
	accept_all("nested", sk[sks - 1].fd);
	for (int i = 0; i < sks; i++)
		if (!option(sk[i].fd, SO_ACCEPTCONN))
			look(sk[i].name, sk[i].fd);
	talk();
	for (int i = 0; i < sks; i++)
		close(sk[i].fd);
	reap(pid), CHECK(waitpid(ended, NULL, 0));
	savepoint();
	return 0;
}
