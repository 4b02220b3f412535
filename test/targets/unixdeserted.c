// Connections whose other end is closed and had an abstract name that another socket has:
// the listener that is still there, or one that was bound since.
#include "unix.h"

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	static char name[2][2][20];
	int file = CHECK(open("file", O_RDWR | O_CREAT, 0644));
	for (int t = 0; t < 2; t++) {
		int type = t ? SOCK_SEQPACKET : SOCK_STREAM;
		for (int i = 0; i < 2; i++)
			snprintf(name[t][i] + 1, sizeof name[t][i] - 1, "deserted %d %d", t, i);
		// Clients whose server closed, the second one with a file in its queue; one that waits.
		int l = add("door", listening(type, name[t][0], 15));
		for (int i = 0; i < 2; i++) {
			add("client", client(type, name[t][0], 15));
			int s = CHECK(accept(l, NULL, NULL));
			with(s, "bye", 3, &file, i, NULL), close(s);
		}
		CHECK(write(add("waits", client(type, name[t][0], 15)), "hello", 5));
		// Servers whose client closed, and had a name that others have by now, or a listener.
		int c = to(bound(type, name[t][1], 15), name[t][0], 15), own = CHECK(accept(l, NULL, NULL));
		close(c), add("of the client that waits", own);
		add("server", CHECK(accept(l, NULL, NULL)));
		c = to(bound(type, name[t][1], 15), name[t][0], 15);
		add("server", CHECK(accept(l, NULL, NULL))), close(c);
		add("has the name", t ? listening(type, name[t][1], 15) : bound(type, name[t][1], 15));
	}
	// Datagrams: of a server that was started anew, and one that had sent something, or left
	// who it was made with.
	int p[2], old = bound(SOCK_DGRAM, NAME("\0deserted server")), c = add("of the old one", client(SOCK_DGRAM, NAME("\0deserted server")));
	CHECK(write(c, "to old", 6)), close(old);
	int d = add("new server", bound(SOCK_DGRAM, NAME("\0deserted server")));
	CHECK(write(add("of the new one", client(SOCK_DGRAM, NAME("\0deserted server"))), "to new", 6)), (void)d;
	old = bound(SOCK_DGRAM, NAME("\0deserted sender")), c = add("named", to(bound(SOCK_DGRAM, NAME("\0deserted named")), NAME("\0deserted sender")));
	to(old, NAME("\0deserted named")), with(old, "from old", 8, &file, 1, NULL), close(old);
	add("new sender", to(bound(SOCK_DGRAM, NAME("\0deserted sender")), NAME("\0deserted server")));
	CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, p));
	struct sockaddr_un at;
	CHECK(bind(p[1], (void *)&at, address(&at, NAME("\0deserted mate"))));
	CHECK(write(p[1], "from mate", 9)), close(p[1]), add("mate", p[0]);
	add("has its name", bound(SOCK_DGRAM, NAME("\0deserted mate")));
	do
		look_all();
	while (savepoint());
	anew = 1, talk();
	for (int i = 0; i < sks; i++)
		if (option(sk[i].fd, SO_ACCEPTCONN)) {
			struct sockaddr_un un;
			socklen_t len = sizeof un;
			CHECK(getsockname(sk[i].fd, (void *)&un, &len));
			int fd = CHECK(socket(AF_UNIX, option(sk[i].fd, SO_TYPE), 0));
			CHECK(connect(fd, (void *)&un, len)), CHECK(accept(sk[i].fd, NULL, NULL));
		}
	savepoint();
	return 0;
}
