// Connections of TCP that nobody has as a descriptor: they were handed on in messages that
// are in the queue of a unix socket (argument queue), or at a connection to a listener that
// nobody has accepted (wait), or at one to a listener that is itself in such a message
// (deep). It accepts as many clients as its first argument says, hands them on, and behind
// the save point receives them, reads from each what comes until its end, and sends it
// back. Some have got an answer before that they don't read. It writes its port to DIR/port,
// and makes DIR/handed.
#include "unix.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

enum { MOST = 100, ANSWER = 300000 };

static void serve(int fd) {
	size_t n = 0, room = 1 << 20;
	char *b = malloc(room);
	for (ssize_t r; (r = CHECK(read(fd, b + n, room - n)));)
		n += r;
	for (size_t done = 0; done < n;)
		done += CHECK(write(fd, b + done, n - done));
	close(fd);
	free(b);
}

static void tell(const char *name, const char *text) {
	char path[400];
	snprintf(path, sizeof path, "%s/%s", ctl_dir, name);
	ctl_write(path, text, strlen(text));
}

static void prepare(int i, int fd) {
	static char answer[ANSWER];
	int opts[][3] = {
		{IPPROTO_TCP, TCP_NODELAY, 1}, {SOL_SOCKET, SO_KEEPALIVE, 1}, {IPPROTO_TCP, TCP_KEEPIDLE, 77}, {SOL_SOCKET, SO_RCVLOWAT, 2},
		{IPPROTO_IP, IP_TOS, 0x10}, {IPPROTO_TCP, TCP_USER_TIMEOUT, 600000}, {SOL_SOCKET, SO_MARK, 4}, {SOL_SOCKET, SO_PRIORITY, 3},
		{SOL_SOCKET, SO_SNDBUF, 100000}, {SOL_SOCKET, SO_RCVBUF, 300000}, {IPPROTO_TCP, TCP_MAXSEG, 1000}, {SOL_SOCKET, SO_BINDTOIFINDEX, 1},
	};
	int *o = opts[i % (sizeof opts / sizeof *opts)];
	CHECK(setsockopt(fd, o[0], o[1], o + 2, sizeof(int)));
	for (int n = i % 4 == 1 ? 1000 : i % 4 == 2 ? ANSWER : 0; n > 0;) {
		ssize_t r = send(fd, answer, n, MSG_DONTWAIT);
		if (r < 0)
			break;
		n -= r;
	}
	if (i % 7 == 5 && i % 5 != 4)
		CHECK(shutdown(fd, SHUT_WR));
}

static int receive(int from, int *fds) {
	char data[20], control[CMSG_SPACE(MOST * sizeof(int))];
	struct iovec v = {data, sizeof data};
	struct msghdr h = {NULL, 0, &v, 1, control, sizeof control, 0};
	CHECK(recvmsg(from, &h, 0));
	int n = (CMSG_FIRSTHDR(&h)->cmsg_len - CMSG_LEN(0)) / sizeof(int);
	memcpy(fds, CMSG_DATA(CMSG_FIRSTHDR(&h)), n * sizeof(int));
	return n;
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	int clients = atoi(argv[1]), fds[MOST], p[2], u = -1, in = -1;
	struct sockaddr_in6 at = {AF_INET6, .sin6_addr = IN6ADDR_ANY_INIT};
	socklen_t len = sizeof at;
	int l = CHECK(socket(AF_INET6, SOCK_STREAM, 0));
	CHECK(bind(l, (void *)&at, sizeof at)), CHECK(listen(l, 500)), CHECK(getsockname(l, (void *)&at, &len));
	char text[16];
	sprintf(text, "%d", ntohs(at.sin6_port)), tell("port", text);
	for (int i = 0; i < clients; i++)
		prepare(i, fds[i] = CHECK(accept(l, NULL, NULL)));
	close(l);
	if (!strcmp(argv[2], "queue")) {
		CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, p));
		with(p[0], "handed", 6, fds, clients, NULL), in = p[1];
	} else {
		u = listening(SOCK_STREAM, NAME("door"));
		int c = client(SOCK_STREAM, NAME("door")), inner = -1, d;
		if (!strcmp(argv[2], "deep")) {
			inner = listening(SOCK_STREAM, NAME("inner")), d = client(SOCK_STREAM, NAME("inner"));
			with(d, "handed", 6, fds, clients, NULL), close(d);
			with(c, "door", 4, &inner, 1, NULL), close(inner);
		} else
			with(c, "handed", 6, fds, clients, NULL);
		close(c);
	}
	for (int i = 0; i < clients; i++)
		close(fds[i]);
	tell("handed", "");
	savepoint();
	if (in < 0)
		in = CHECK(accept(u, NULL, NULL));
	int n = receive(in, fds);
	if (!strcmp(argv[2], "deep"))
		n = receive(CHECK(accept(fds[0], NULL, NULL)), fds);
	MUST(n == clients);
	for (int i = 0; i < clients; i++) {
		if (i % 7 == 5 && i % 5 != 4) {
			char b[65536];
			while (CHECK(read(fds[i], b, sizeof b)))
				;
			close(fds[i]);
		} else
			serve(fds[i]);
	}
	savepoint();
	return 0;
}
