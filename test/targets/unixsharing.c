// Sockets of TCP and UDP that share a port, of which all but the first are only in a message
// of a connection that nobody has accepted: with clients and datagrams that wait, with the
// option off since, and with a program that chooses who gets what.
#include "unix.h"
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

enum { GROUPS = 7, SIZE = 3 };

static const struct sharers {
	int type, option, listens, off, chosen; // by a program, but 0
} groups[GROUPS] = {
	{SOCK_STREAM, SO_REUSEADDR, 0, 0, 0},
	{SOCK_STREAM, SO_REUSEPORT, 0, 0, 0},
	{SOCK_STREAM, SO_REUSEPORT, 1, 0, 0},
	{SOCK_STREAM, SO_REUSEPORT, 1, 1, 2},
	{SOCK_DGRAM, SO_REUSEADDR, 0, 0, 0},
	{SOCK_DGRAM, SO_REUSEPORT, 0, 1, 0},
	{SOCK_DGRAM, SO_REUSEPORT, 0, 0, 1},
};

static struct sockaddr_in name(int fd) {
	struct sockaddr_in a;
	socklen_t len = sizeof a;
	CHECK(getsockname(fd, (void *)&a, &len));
	return a;
}

static void send_to(const struct sharers *g, int fd, const char *text) {
	struct sockaddr_in a = name(fd);
	int c = CHECK(socket(AF_INET, g->type, 0));
	CHECK(connect(c, (void *)&a, sizeof a)), CHECK(send(c, text, strlen(text), 0));
	if (g->type == SOCK_DGRAM)
		close(c);
}

static void make(const struct sharers *g, int *fd) {
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	struct sock_filter one = {BPF_RET | BPF_K, 0, 0, g->chosen};
	struct sock_fprog all = {1, &one};
	for (int i = 0; i < SIZE; i++) {
		fd[i] = CHECK(socket(AF_INET, g->type | SOCK_NONBLOCK, 0)), set(fd[i], g->option, 1);
		CHECK(bind(fd[i], (void *)&a, sizeof a));
		if (g->listens)
			CHECK(listen(fd[i], 32));
		a = name(fd[i]);
	}
	if (g->chosen)
		CHECK(setsockopt(fd[0], SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &all, sizeof all));
	for (int i = 0; i < 9 && (g->listens || g->type == SOCK_DGRAM); i++)
		send_to(g, fd[0], "early");
	for (int i = 0; i < SIZE; i++)
		if (g->off)
			set(fd[i], g->option, 0);
}

// take_all tells what each of a group has got: of those that a program chooses for.
static void take_all(const struct sharers *g, int *fd, const char *when) {
	int all = 0;
	for (int i = 0; i < SIZE; i++) {
		int got = 0, c;
		char data[20];
		if (g->listens)
			for (; (c = accept(fd[i], NULL, NULL)) >= 0; got++)
				MUST(CHECK(read(c, data, sizeof data)) == (ssize_t)strlen(when) && !memcmp(data, when, strlen(when)));
		else if (g->type == SOCK_DGRAM)
			for (ssize_t n; (n = recv(fd[i], data, sizeof data, 0)) >= 0; got++)
				MUST(n == (ssize_t)strlen(when) && !memcmp(data, when, n));
		all += got;
		if (g->chosen)
			obs("%d gets %d", i, got);
	}
	obs("%s: %d", when, all);
}

static const char *come(int fd, int type, int option) {
	struct sockaddr_in a = name(fd);
	int c = CHECK(socket(AF_INET, type, 0));
	set(c, option, 1);
	const char *how = bind(c, (void *)&a, sizeof a) ? strerror(errno) : "ok";
	CHECK(close(c));
	return how;
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	int fd[GROUPS][SIZE], sent[GROUPS * SIZE], n = 0;
	for (int i = 0; i < GROUPS; i++) {
		make(&groups[i], fd[i]);
		for (int j = 1; j < SIZE; j++)
			sent[n++] = fd[i][j];
	}
	int l = add("door", listening(SOCK_STREAM, NAME("door"))), c = add("client", client(SOCK_STREAM, NAME("door")));
	with(c, "files", 5, sent, n, NULL);
	for (int i = 0; i < n; i++)
		CHECK(close(sent[i]));
	do
		look_all();
	while (savepoint());

	char data[20], control[CMSG_SPACE(sizeof sent)];
	struct iovec v = {data, sizeof data};
	struct msghdr h = {NULL, 0, &v, 1, control, sizeof control, 0};
	int s = CHECK(accept(l, NULL, NULL));
	MUST(CHECK(recvmsg(s, &h, 0)) == 5 && CMSG_FIRSTHDR(&h)->cmsg_len == CMSG_LEN(n * sizeof(int)));
	memcpy(sent, CMSG_DATA(CMSG_FIRSTHDR(&h)), n * sizeof(int)), n = 0;
	for (int i = 0; i < GROUPS; i++) {
		for (int j = 1; j < SIZE; j++)
			fd[i][j] = sent[n++];
		for (int j = 0; j < SIZE; j++)
			obs("%d, %d: option %d, with the first's port %d, flags %o", i, j, option(fd[i][j], groups[i].option), name(fd[i][j]).sin_port == name(fd[i][0]).sin_port, fcntl(fd[i][j], F_GETFL));
		obs("beside it: %s, %s", come(fd[i][2], groups[i].type, SO_REUSEPORT), come(fd[i][2], groups[i].type, SO_REUSEADDR));
		take_all(&groups[i], fd[i], "early");
		for (int j = 0; j < 9 && (groups[i].listens || groups[i].type == SOCK_DGRAM); j++)
			send_to(&groups[i], fd[i][0], "late");
		take_all(&groups[i], fd[i], "late");
	}
	savepoint();
	return 0;
}
