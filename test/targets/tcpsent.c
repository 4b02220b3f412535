// TCP connections that are on their way in the queue of a unix socket, and that
// nobody has as a descriptor: with something to read, with something to be sent,
// half closed; and a listener. Who receives them goes on with them, or, with the
// argument names, only looks whose ends they are.
#include "ctl.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

enum { IDLE, READABLE, FULL, CLOSING, ALL };

static int listener(struct sockaddr_in *at) {
	socklen_t len = sizeof *at;
	*at = (struct sockaddr_in){AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int l = CHECK(socket(AF_INET, SOCK_STREAM, 0));
	CHECK(setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int)));
	CHECK(bind(l, (void *)at, len));
	CHECK(listen(l, 5));
	CHECK(getsockname(l, (void *)at, &len));
	return l;
}

static int dial(struct sockaddr_in *at) {
	int s = CHECK(socket(AF_INET, SOCK_STREAM, 0));
	CHECK(connect(s, (void *)at, sizeof *at));
	return s;
}

static void put(int queue, int fd) {
	char c[CMSG_SPACE(sizeof fd)] = "", byte = 'x';
	struct iovec v = {&byte, 1};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = c, .msg_controllen = sizeof c};
	*CMSG_FIRSTHDR(&m) = (struct cmsghdr){CMSG_LEN(sizeof fd), SOL_SOCKET, SCM_RIGHTS};
	memcpy(CMSG_DATA(CMSG_FIRSTHDR(&m)), &fd, sizeof fd);
	MUST(sendmsg(queue, &m, 0) == 1);
	close(fd);
}

static int take(int queue) {
	char c[CMSG_SPACE(sizeof(int))], byte;
	struct iovec v = {&byte, 1};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = c, .msg_controllen = sizeof c};
	MUST(recvmsg(queue, &m, 0) == 1);
	int fd;
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof fd);
	return fd;
}

static long fill(int fd) {
	char b[4096] = "";
	long n = 0;
	for (int r; (r = send(fd, b, sizeof b, MSG_DONTWAIT)) > 0;)
		n += r;
	return n;
}

static long count(int fd, long most) {
	char b[4096];
	long n = 0;
	for (int r; n < most && (r = recv(fd, b, sizeof b, 0)) > 0;)
		n += r;
	return n;
}

// met tells whether two sockets are ends of one connection.
static int met(int a, int b) {
	struct sockaddr_in own, peer;
	socklen_t len = sizeof own, plen = sizeof peer;
	CHECK(getsockname(a, (void *)&own, &len)), CHECK(getpeername(b, (void *)&peer, &plen));
	return own.sin_port == peer.sin_port && own.sin_addr.s_addr == peer.sin_addr.s_addr;
}

static void exchange(int i, int a, int b) {
	char c = '-', d = '-';
	int sent = send(a, "a", 1, MSG_NOSIGNAL), back = send(b, "b", 1, MSG_NOSIGNAL);
	int got = recv(b, &c, 1, 0), returned = recv(a, &d, 1, 0);
	obs("%d: sent %d %d, got %d %c, %d %c", i, sent, back, got, c, returned, d);
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	struct sockaddr_in at;
	int queue[2], l = listener(&at), client[ALL], more;
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, queue));
	do {
		long full = 0;
		for (int i = 0; i < ALL; i++) {
			client[i] = dial(&at);
			int s = CHECK(accept(l, NULL, NULL));
			if (i == READABLE)
				CHECK(send(client[i], "r", 1, 0));
			if (i == FULL)
				full = fill(s);
			if (i == CLOSING)
				CHECK(shutdown(client[i], SHUT_WR));
			put(queue[0], s);
		}
		put(queue[0], l);
		more = savepoint();
		for (int i = 0; i < ALL; i++) {
			int s = take(queue[1]);
			char c = '-';
			if (argc > 1) {
				obs("%d: met %d %d", i, met(s, client[i]), met(client[i], s));
				close(s), close(client[i]);
				continue;
			}
			if (i == READABLE) {
				int got = recv(s, &c, 1, 0);
				obs("read %d %c", got, c);
			}
			if (i == FULL)
				obs("all is there: %d", count(client[i], full) == full);
			if (i == CLOSING) {
				int end = recv(s, &c, 1, 0), sent = send(s, "x", 1, 0);
				int got = recv(client[i], &c, 1, 0);
				obs("end %d, sent %d, got %d", end, sent, got);
			} else {
				exchange(i, client[i], s);
			}
			close(s), close(client[i]);
		}
		l = take(queue[1]);
	} while (more);
	return 0;
}
