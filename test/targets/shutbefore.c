// TCP sockets that were shut down before they were connected, or listened, of which no
// peer hears: one that then connects, and such as are let in, or wait to be, by a
// listener that was; over IPv4 or IPv6.
#include "ctl.h"
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

static int fds[20], n;

static void look(void) {
	for (int i = 0; i < n; i++) {
		struct tcp_info t = {0};
		socklen_t len = sizeof t;
		struct pollfd p = {fds[i], POLLIN | POLLOUT | POLLRDHUP, 0};
		CHECK(getsockopt(fds[i], IPPROTO_TCP, TCP_INFO, &t, &len));
		poll(&p, 1, 0);
		obs("%d: state %d, events %x", i, t.tcpi_state == TCP_FIN_WAIT1 ? TCP_FIN_WAIT2 : t.tcpi_state, p.revents);
	}
}

// say sends something and notes what comes of it.
static void say(int i) {
	int v = send(fds[i], "abc", 3, MSG_NOSIGNAL | MSG_DONTWAIT);
	obs("%d: sends %d %s", i, v, v < 0 ? strerror(errno) : "");
}

// hear notes what has come.
static void hear(int i) {
	char b[100];
	struct pollfd p = {fds[i], POLLIN, 0};
	MUST(poll(&p, 1, 10000) == 1);
	int v = recv(fds[i], b, sizeof b, MSG_DONTWAIT);
	obs("%d: gets %d %s", i, v, v < 0 ? strerror(errno) : "");
}

static int made(int family, int how) {
	fds[n] = CHECK(socket(family, SOCK_STREAM, 0));
	if (how >= 0)
		MUST(shutdown(fds[n], how) && errno == ENOTCONN);
	return n++;
}

static int listening(int family, int how) {
	int i = made(family, how);
	CHECK(listen(fds[i], 9));
	return i;
}

static int calling(int family, int listener, int how) {
	struct sockaddr_in6 to = {0};
	socklen_t len = sizeof to;
	int i = made(family, how);
	CHECK(getsockname(fds[listener], (void *)&to, &len));
	CHECK(connect(fds[i], (void *)&to, len));
	return i;
}

static int accepted(int listener) {
	fds[n] = CHECK(accept(fds[listener], NULL, NULL));
	return n++;
}

int main(int argc, char **argv) {
	int family = *argv[1] == '6' ? AF_INET6 : AF_INET;
	ctl_init(argc, argv);
	int plain = listening(family, -1), in = listening(family, SHUT_RD), out = listening(family, SHUT_WR);
	int mute = calling(family, plain, SHUT_WR), peer = accepted(plain);
	int waits = calling(family, in, -1), told = calling(family, out, -1), left = accepted(out);
	MUST(send(fds[peer], "for later", 9, 0) == 9 && send(fds[waits], "12", 2, 0) == 2);
	do
		look(), say(mute), say(left);
	while (savepoint());
	hear(mute), hear(told);
	int first = accepted(in);
	hear(first), hear(first), say(first);
	calling(family, in, -1), calling(family, out, -1);
	int second = accepted(in), third = accepted(out);
	look(), say(second), say(third);
	close(fds[mute]), fds[mute] = fds[plain], hear(peer); // now it is told
	savepoint();
	return 0;
}
