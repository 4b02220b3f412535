// Sockets at one address, which an option let them have that is off since: of TCP,
// also listening and with clients that wait, and of UDP, with datagrams that wait; and
// listeners that have it on, and let nothing be attached to them.
#include "ctl.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

enum { GROUPS = 7, SIZE = 3, EARLY = 16 };

static const struct group {
	int type, option, listens, off, locked;
} groups[GROUPS] = {
	{SOCK_STREAM, SO_REUSEADDR, 0, SIZE},
	{SOCK_STREAM, SO_REUSEPORT, 0, SIZE},
	{SOCK_STREAM, SO_REUSEADDR, 0, 1},
	{SOCK_STREAM, SO_REUSEPORT, 1, SIZE},
	{SOCK_DGRAM, SO_REUSEADDR, 0, SIZE},
	{SOCK_DGRAM, SO_REUSEPORT, 0, SIZE},
	{SOCK_STREAM, SO_REUSEPORT, 1, 0, 1},
};

static int get(int fd, int option) {
	int value;
	socklen_t size = sizeof value;
	CHECK(getsockopt(fd, SOL_SOCKET, option, &value, &size));
	return value;
}

static struct sockaddr_in name(int fd) {
	struct sockaddr_in a;
	socklen_t len = sizeof a;
	CHECK(getsockname(fd, (void *)&a, &len));
	return a;
}

// send_to has something come to whoever of the group gets it, which waits there.
static void send_to(const struct group *g, int *fd) {
	struct sockaddr_in a = name(fd[0]);
	int c = CHECK(socket(AF_INET, g->type, 0));
	CHECK(connect(c, (void *)&a, sizeof a));
	CHECK(send(c, "one", 3, 0));
	if (g->type == SOCK_DGRAM)
		CHECK(send(c, "three", 5, 0));
}

static void make(const struct group *g, int *fd) {
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	int on = 1, off = 0;
	for (int i = 0; i < SIZE; i++) {
		fd[i] = CHECK(socket(AF_INET, g->type, 0));
		CHECK(setsockopt(fd[i], SOL_SOCKET, g->option, &on, sizeof on));
		CHECK(bind(fd[i], (void *)&a, sizeof a));
		if (g->listens)
			CHECK(listen(fd[i], 32));
		if (g->locked) // nothing can be attached any more
			CHECK(setsockopt(fd[i], SOL_SOCKET, SO_LOCK_FILTER, &on, sizeof on));
		a = name(fd[i]);
	}
	for (int i = 0; g->listens && i < EARLY; i++)
		send_to(g, fd);
	for (int i = 0; i < g->off; i++)
		CHECK(setsockopt(fd[i], SOL_SOCKET, g->option, &off, sizeof off));
}

// queued is how many clients wait at a listener.
static int queued(int fd) {
	struct tcp_info info = {0};
	socklen_t size = sizeof info;
	CHECK(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size));
	return info.tcpi_unacked;
}

// look tells of what waits where, without taking it. Who of the group it is is chosen
// by what differs from run to run.
static void look(const struct group *g, int *fd) {
	int waits = 0, options = 0;
	for (int i = 0; i < SIZE; i++) {
		char buf[8];
		struct timeval none = {0, 1};
		CHECK(setsockopt(fd[i], SOL_SOCKET, SO_RCVTIMEO, &none, sizeof none));
		if (g->type == SOCK_DGRAM && recv(fd[i], buf, sizeof buf, MSG_PEEK | MSG_DONTWAIT) == 3)
			waits |= 1 << 8 * i;
		if (g->listens)
			waits |= queued(fd[i]) << 8 * i;
		options |= (get(fd[i], SO_REUSEADDR) | get(fd[i], SO_REUSEPORT) << 1) << 2 * i;
	}
	obs("type %d, option %d: options %x, waits %d", g->type, g->option, options, waits != 0);
	obs("= port %d, waits at %x", name(fd[0]).sin_port, waits);
}

// accept_all tells how many clients come from all of a group, and of their options. Each
// is at the listener where it waited, as look has told.
static void accept_all(int *fd) {
	int count = 0, options[3] = {0};
	for (int i = 0; i < SIZE; i++) {
		int c;
		CHECK(fcntl(fd[i], F_SETFL, O_NONBLOCK));
		for (; (c = accept(fd[i], NULL, NULL)) >= 0; count++) {
			char buf[8] = "";
			CHECK(recv(c, buf, sizeof buf - 1, 0));
			MUST(!strcmp(buf, "one"));
			options[0] += get(c, SO_REUSEADDR), options[1] += get(c, SO_REUSEPORT), options[2] += get(c, SO_LOCK_FILTER);
		}
	}
	obs("%d accepted, options %d %d %d", count, options[0], options[1], options[2]);
}

// alone is a socket that nobody shares its port with, and that has SO_REUSEPORT off since it
// was bound, if it was on then.
static int alone(int listens, int on) {
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	int fd = CHECK(socket(AF_INET, SOCK_STREAM, 0)), off = 0;
	CHECK(setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on));
	CHECK(bind(fd, (void *)&a, sizeof a));
	if (listens)
		CHECK(listen(fd, 1));
	CHECK(setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &off, sizeof off));
	return fd;
}

// come tells whether somebody with an option may be beside a socket of TCP.
static const char *come(int fd, int option) {
	struct sockaddr_in a = name(fd);
	int c = CHECK(socket(AF_INET, SOCK_STREAM, 0)), on = 1;
	CHECK(setsockopt(c, SOL_SOCKET, option, &on, sizeof on));
	const char *how = bind(c, (void *)&a, sizeof a) ? strerror(errno) : "ok";
	CHECK(close(c));
	return how;
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	int fd[GROUPS][SIZE], single[4];
	for (int i = 0; i < 4; i++)
		single[i] = alone(i & 1, i >> 1);
	for (int i = 0; i < GROUPS; i++) {
		make(&groups[i], fd[i]);
		if (groups[i].listens || groups[i].type == SOCK_DGRAM)
			send_to(&groups[i], fd[i]);
	}
	do {
		for (int i = 0; i < GROUPS; i++)
			look(&groups[i], fd[i]);
	} while (savepoint());
	for (int i = 0; i < GROUPS; i++)
		if (groups[i].listens)
			accept_all(fd[i]);
	for (int i = 0; i < 4; i++)
		obs("beside one that listens %d, and had SO_REUSEPORT %d: %s", i & 1, i >> 1, come(single[i], SO_REUSEPORT));
	for (int i = 0; i < GROUPS; i++)
		if (groups[i].type == SOCK_STREAM)
			obs("beside group %d: with SO_REUSEPORT %s, with SO_REUSEADDR %s", i, come(fd[i][0], SO_REUSEPORT), come(fd[i][0], SO_REUSEADDR));
	savepoint();
	return 0;
}
