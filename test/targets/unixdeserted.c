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
