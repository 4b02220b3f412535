// A server that gives back every datagram that it gets: at an address, at all of
// IPv4 and of a group, at all of both, and at one that is connected to whoever
// sent first. It knows nothing of being saved. It writes its ports to "port".
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SOCKETS = 4 };

static void fail(const char *what) {
	FILE *f = fopen("error", "a");
	fprintf(f, "%s: errno %d\n", what, errno);
	fclose(f);
	_exit(1);
}

static void give_back(int fd, int connects) {
	static char b[65536];
	struct sockaddr_in6 from;
	socklen_t len = sizeof from;
	ssize_t n = recvfrom(fd, b, sizeof b, 0, (void *)&from, &len);
	if (n < 0 || sendto(fd, b, n, 0, (void *)&from, len) != n)
		fail("give back");
	if (connects && connect(fd, (void *)&from, len))
		fail("connect");
}

int main(void) {
	struct pollfd p[SOCKETS];
	FILE *f = fopen("port.new", "w");
	for (int i = 0; i < SOCKETS; i++) {
		struct sockaddr_in6 at6 = {.sin6_family = AF_INET6};
		struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(i == 1 ? INADDR_ANY : INADDR_LOOPBACK)};
		socklen_t len = sizeof at6;
		int fd = socket(i == 2 ? AF_INET6 : AF_INET, SOCK_DGRAM, 0);
		if (fd < 0 || bind(fd, i == 2 ? (void *)&at6 : (void *)&at, i == 2 ? sizeof at6 : sizeof at) || getsockname(fd, (void *)&at6, &len))
			fail("bind");
		struct ip_mreq join = {{inet_addr("239.7.7.7")}, {htonl(INADDR_LOOPBACK)}};
		if (i == 1 && setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &join, sizeof join))
			fail("join");
		fprintf(f, "%d ", ntohs(at6.sin6_port));
		p[i] = (struct pollfd){fd, POLLIN, 0};
	}
	fclose(f);
	rename("port.new", "port");
	for (;;) {
		if (poll(p, SOCKETS, -1) < 0 && errno != EINTR)
			fail("poll");
		for (int i = 0; i < SOCKETS; i++)
			if (p[i].revents)
				give_back(p[i].fd, i == 3);
	}
}
