// A server that accepts nobody before the save point. Behind it, it accepts as
// many clients as its first argument says, reads from each what comes until its
// end, and sends it back. With a second argument of share, several listeners
// share a port; with defer, it waits for their first data; with defer6 at an
// IPv6 socket, to which they come by IPv4. With handed, or handed and defer, its listener is
// only in a message of a unix connection that nobody has accepted. With changed it is its own
// first client, and gives its listener other options behind it. It writes its port to DIR/port.
#include "unix.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

enum { MOST = 4 };
static struct pollfd l[MOST];
static int defers;

// hand sends a listener away, and take_back receives it.
static int hand(int fd) {
	int u = listening(SOCK_STREAM, NAME("door")), c = client(SOCK_STREAM, NAME("door"));
	with(c, "l", 1, &fd, 1, NULL), close(c), close(fd);
	return u;
}

static int take_back(int u) {
	char data, control[CMSG_SPACE(sizeof(int))];
	struct iovec v = {&data, 1};
	struct msghdr h = {NULL, 0, &v, 1, control, sizeof control, 0};
	int c = CHECK(accept(u, NULL, NULL)), fd;
	CHECK(recvmsg(c, &h, 0)), close(c);
	MUST(CMSG_FIRSTHDR(&h)->cmsg_len == CMSG_LEN(sizeof fd));
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&h)), sizeof fd);
	return fd;
}

// connect_first makes the first client, and change gives the listener other options.
static int connect_first(int l) {
	struct sockaddr_in at;
	socklen_t len = sizeof at;
	CHECK(getsockname(l, (void *)&at, &len));
	int c = CHECK(socket(AF_INET, SOCK_STREAM, 0));
	CHECK(connect(c, (void *)&at, len));
	return c;
}

static void change(int l) {
	CHECK(setsockopt(l, IPPROTO_TCP, TCP_KEEPIDLE, &(int){77}, sizeof(int)));
	CHECK(setsockopt(l, SOL_SOCKET, SO_RCVBUF, &(int){50000}, sizeof(int)));
	CHECK(setsockopt(l, SOL_SOCKET, SO_KEEPALIVE, &(int){1}, sizeof(int)));
}

static int number(int fd, int level, int opt) {
	int v;
	socklen_t len = sizeof v;
	CHECK(getsockopt(fd, level, opt, &v, &len));
	return v;
}

// check_first accepts the first client, which has nothing of that, unlike the listener.
static void check_first(int l, int c) {
	int a = CHECK(accept(l, NULL, NULL));
	for (int changed = 0; changed < 2; changed++) {
		int fd = changed ? l : a;
		MUST((number(fd, IPPROTO_TCP, TCP_KEEPIDLE) == 77) == changed);
		MUST((number(fd, SOL_SOCKET, SO_BUF_LOCK) == 2) == changed);
		MUST((number(fd, SOL_SOCKET, SO_RCVBUF) == 100000) == changed);
		MUST(number(fd, SOL_SOCKET, SO_KEEPALIVE) == changed);
	}
	close(a), close(c);
}

static int listener(struct sockaddr_in6 *at, int shared) {
	int fd = CHECK(socket(at->sin6_family, SOCK_STREAM, 0));
	CHECK(setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &shared, sizeof shared));
	if (defers)
		CHECK(setsockopt(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &(int){600}, sizeof(int)));
	CHECK(bind(fd, (void *)at, sizeof *at));
	CHECK(listen(fd, 500));
	socklen_t len = sizeof *at;
	CHECK(getsockname(fd, (void *)at, &len));
	return fd;
}

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

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	int clients = atoi(argv[1]), shared = !strcmp(argv[2], "share"), n = shared ? MOST : 1, handed = !strncmp(argv[2], "handed", 6), changed = !strcmp(argv[2], "changed");
	defers = strstr(argv[2], "defer") != NULL;
	struct sockaddr_in6 at = {AF_INET6}; // begins as one of IPv4 does
	if (strcmp(argv[2], "defer6"))
		*(struct sockaddr_in *)&at = (struct sockaddr_in){AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	for (int i = 0; i < n; i++)
		l[i] = (struct pollfd){listener(&at, shared), POLLIN, 0};
	char path[400], text[16];
	snprintf(path, sizeof path, "%s/port", ctl_dir);
	ctl_write(path, text, sprintf(text, "%d", ntohs(at.sin6_port)));
	int first = changed ? connect_first(l[0].fd) : -1;
	if (changed)
		change(l[0].fd);
	int u = handed ? hand(l[0].fd) : -1;
	savepoint();
	if (handed)
		l[0].fd = take_back(u);
	if (changed)
		check_first(l[0].fd, first);
	while (clients) {
		CHECK(poll(l, n, -1));
		for (int i = 0; i < n; i++)
			if (l[i].revents)
				serve(CHECK(accept(l[i].fd, NULL, NULL))), clients--;
	}
	savepoint();
	return 0;
}
