// A server that floods every client, and takes what the client floods it with, at
// the same time: neither waits for the other. When a client has closed its side it
// writes, to the file "sum.N", how much it has sent and got, and what sums that has;
// N is the first byte that came. Datagrams are given back. It knows nothing of being
// saved. It writes its port, of TCP and UDP, to the file "port". The argument, if
// there is one, is how large its buffers are to be.
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CLIENTS = 32, PIECE = 65536 };

static struct client {
	int fd, number, done;
	uint64_t sent, got, sent_sum, got_sum;
} all[CLIENTS];

static int clients;

static void fail(const char *what) {
	FILE *f = fopen("error", "a");
	fprintf(f, "%s: errno %d\n", what, errno);
	fclose(f);
	_exit(1);
}

static uint64_t sum(uint64_t s, const unsigned char *b, ssize_t n) {
	while (n-- > 0)
		s = s * 31 + *b++;
	return s;
}

static unsigned char byte(uint64_t at) { return at * 2654435761u >> 24; }

static void give(struct client *c) {
	static unsigned char b[PIECE];
	for (int i = 0; i < PIECE; i++)
		b[i] = byte(c->sent + i);
	ssize_t n = send(c->fd, b, PIECE, MSG_DONTWAIT);
	if (n < 0 && errno != EAGAIN && errno != EINTR)
		fail("send");
	if (n > 0)
		c->sent += n, c->sent_sum = sum(c->sent_sum, b, n);
}

static void end(struct client *c) {
	char name[30], whole[30];
	if (shutdown(c->fd, SHUT_WR))
		fail("shutdown");
	snprintf(name, sizeof name, "sum.%d.new", c->number), snprintf(whole, sizeof whole, "sum.%d", c->number);
	FILE *f = fopen(name, "w");
	fprintf(f, "%llu %llx %llu %llx", (unsigned long long)c->sent, (unsigned long long)c->sent_sum, (unsigned long long)c->got, (unsigned long long)c->got_sum);
	fclose(f);
	rename(name, whole);
	c->done = 1;
}

static void take(struct client *c) {
	static unsigned char b[PIECE];
	ssize_t n = recv(c->fd, b, PIECE, MSG_DONTWAIT);
	if (n < 0 && errno != EAGAIN && errno != EINTR)
		fail("recv");
	if (n > 0) {
		if (!c->got)
			c->number = *b;
		c->got += n, c->got_sum = sum(c->got_sum, b, n);
	}
	if (!n)
		end(c);
}

static void answer(int fd) {
	char b[2000];
	struct sockaddr_in6 from;
	socklen_t len = sizeof from;
	ssize_t n = recvfrom(fd, b, sizeof b, MSG_DONTWAIT, (void *)&from, &len);
	if (n < 0 ? errno != EAGAIN && errno != EINTR : sendto(fd, b, n, 0, (void *)&from, len) != n)
		fail("answer");
}

int main(int argc, char **argv) {
	struct sockaddr_in6 at = {AF_INET6, .sin6_addr = IN6ADDR_ANY_INIT};
	socklen_t len = sizeof at;
	signal(SIGPIPE, SIG_IGN);
	int l = socket(AF_INET6, SOCK_STREAM, 0), u = socket(AF_INET6, SOCK_DGRAM, 0);
	int size = argc > 1 ? atoi(argv[1]) : 0;
	setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
	if (size && (setsockopt(l, SOL_SOCKET, SO_RCVBUF, &size, sizeof size) || setsockopt(l, SOL_SOCKET, SO_SNDBUF, &size, sizeof size)))
		fail("setsockopt");
	if (bind(l, (void *)&at, sizeof at) || listen(l, CLIENTS) || getsockname(l, (void *)&at, &len) || bind(u, (void *)&at, sizeof at))
		fail("listen");
	FILE *f = fopen("port.new", "w");
	fprintf(f, "%d", ntohs(at.sin6_port));
	fclose(f);
	rename("port.new", "port");
	for (;;) {
		struct pollfd p[CLIENTS + 2] = {{l, clients < CLIENTS ? POLLIN : 0, 0}, {u, POLLIN, 0}};
		for (int i = 0; i < clients; i++)
			p[i + 2] = (struct pollfd){all[i].done ? -1 : all[i].fd, POLLIN | POLLOUT, 0};
		int now = clients;
		if (poll(p, now + 2, -1) < 0 && errno != EINTR)
			fail("poll");
		for (int i = 0; i < now; i++) {
			if (p[i + 2].revents & POLLOUT)
				give(&all[i]);
			if (p[i + 2].revents & (POLLIN | POLLHUP | POLLERR))
				take(&all[i]);
		}
		if (p[1].revents)
			answer(u);
		if (p[0].revents && (all[clients].fd = accept(l, NULL, NULL)) >= 0)
			clients++;
	}
}
