// A server that gives back whatever it gets, to any number of clients. It knows
// nothing of being saved. It writes its port to the file "port".
// Arguments: none, an address, 6 for ::1, or "share" to share its port (SO_REUSEPORT)
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static void fail(const char *what) {
	FILE *f = fopen("error", "a");
	fprintf(f, "%s: errno %d\n", what, errno);
	fclose(f);
	_exit(1);
}

static void give_back(int fd) {
	static char b[65536];
	ssize_t n = read(fd, b, sizeof b);
	if (n <= 0) {
		if (n < 0)
			fail("read");
		close(fd);
		return;
	}
	for (ssize_t at = 0, k; at < n; at += k)
		if ((k = write(fd, b + at, n - at)) <= 0) {
			if (errno != EPIPE)
				fail("write");
			close(fd); // the client is gone, and knows
			return;
		}
}

int main(int argc, char **argv) {
	struct sockaddr_in6 at = {AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	struct sockaddr_in at4 = {AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof at;
	signal(SIGPIPE, SIG_IGN);
	int v6 = argc > 1 && (*argv[1] == '6' || strchr(argv[1], ':')), share = argc > 1 && *argv[1] == 's', l = socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM, 0), ep = epoll_create1(0);
	if (argc > 1 && !v6 && !share)
		inet_pton(AF_INET, argv[1], &at4.sin_addr);
	else if (v6 && argv[1][1])
		inet_pton(AF_INET6, argv[1], &at.sin6_addr);
	setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
	setsockopt(l, SOL_SOCKET, SO_REUSEPORT, &share, sizeof share);
	if (bind(l, v6 ? (void *)&at : (void *)&at4, v6 ? sizeof at : sizeof at4) || listen(l, 1000) || getsockname(l, (void *)&at, &len))
		fail("listen");
	FILE *f = fopen("port.new", "w");
	fprintf(f, "%d", ntohs(at.sin6_port));
	fclose(f);
	rename("port.new", "port");
	epoll_ctl(ep, EPOLL_CTL_ADD, l, &(struct epoll_event){EPOLLIN, {.fd = l}});
	for (;;) {
		struct epoll_event e[64];
		int n = epoll_wait(ep, e, 64, -1);
		if (n < 0 && errno != EINTR)
			fail("epoll_wait");
		for (int i = 0; i < n; i++) {
			int fd = e[i].data.fd;
			if (fd != l) {
				give_back(fd);
				continue;
			}
			if ((fd = accept(l, NULL, NULL)) < 0 || epoll_ctl(ep, EPOLL_CTL_ADD, fd, &(struct epoll_event){EPOLLIN, {.fd = fd}}))
				fail("accept");
		}
	}
}
