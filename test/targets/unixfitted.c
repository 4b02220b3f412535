// Sockets with all sorts of options that are only in a message of a connection that nobody
// has accepted: what counts is found by trying.
#include "unix.h"

static const int options[] = {SO_OOBINLINE, SO_KEEPALIVE, SO_BROADCAST, SO_PRIORITY, SO_RCVLOWAT, SO_MARK, SO_TIMESTAMP, SO_TIMESTAMPNS, SO_PASSCRED, SO_PEEK_OFF, 76, 83, SO_SNDBUF, SO_RCVBUF};

static void show(const char *what, int fd) {
	for (size_t i = 0; i < sizeof options / sizeof *options; i++)
		obs("%s: option %d is %d", what, options[i], option(fd, options[i]));
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	int l = add("door", listening(SOCK_STREAM, NAME("door"))), c = add("client", client(SOCK_STREAM, NAME("door")));
	int a[2], b[2], d[2], m[8], n = 0;
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, a)), CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, b)), CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, d));
	set(a[1], SO_OOBINLINE, 1), set(a[1], SO_PRIORITY, 5), set(a[1], SO_RCVLOWAT, 77), setsockopt(a[1], SOL_SOCKET, 84 /* SO_INQ */, &(int){1}, sizeof(int));
	set(b[1], SO_KEEPALIVE, 1), set(b[1], SO_TIMESTAMP, 1), set(b[1], SO_SNDBUF, 60000), set(b[1], SO_MARK, 0x1234), setsockopt(b[1], SOL_SOCKET, 83 /* SO_PASSRIGHTS */, &(int){0}, sizeof(int));
	set(d[1], SO_TIMESTAMPNS, 1), set(d[1], SO_PASSCRED, 1), set(d[1], SO_BROADCAST, 1);
	CHECK(write(a[0], "abc", 3)), CHECK(write(b[0], "defg", 4)), CHECK(write(d[0], "hi", 2));
	int named = bound(SOCK_DGRAM, NAME("named")), from = bound(SOCK_DGRAM, NAME("from")), door = listening(SOCK_STREAM, NAME("inner"));
	CHECK(link("named", "linked")), CHECK(rename("named", "renamed")), set(named, SO_PRIORITY, 3), set(door, SO_OOBINLINE, 1);
	struct sockaddr_un un;
	socklen_t len = address(&un, NAME("linked"));
	CHECK(sendto(from, "to it", 5, 0, (void *)&un, len)), CHECK(unlink("from"));
	m[n++] = a[1], m[n++] = b[1], m[n++] = d[1], m[n++] = named, m[n++] = door;
	with(c, "files", 5, m, n, NULL);
	for (int i = 0; i < n; i++)
		CHECK(close(m[i]));
	add("stream", a[0]), add("packets", b[0]), add("datagrams", d[0]), add("from", from);
	do
		look_all();
	while (savepoint());

	char data[20], control[CMSG_SPACE(sizeof m)];
	struct iovec v = {data, sizeof data};
	struct msghdr h = {NULL, 0, &v, 1, control, sizeof control, 0};
	int e = CHECK(accept(l, NULL, NULL));
	MUST(CHECK(recvmsg(e, &h, 0)) == 5 && CMSG_FIRSTHDR(&h)->cmsg_len == CMSG_LEN(n * sizeof(int)));
	memcpy(m, CMSG_DATA(CMSG_FIRSTHDR(&h)), n * sizeof(int)), anew = 1;
	for (int i = 0; i < n; i++)
		show("received", m[i]), look("received", m[i]);
	for (int i = 0; i < 4; i++)
		take("received", m[i], 20);
	savepoint();
	return 0;
}
