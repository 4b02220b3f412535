// A client with some connections from an address that this machine doesn't have
// (IP_TRANSPARENT), which gives back whatever it gets. It knows nothing of being saved.
// Arguments: its address, the peer's, the peer's port, and "off" to have the option off
// once it is connected, or "on"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CONNECTIONS = 4 };

static void check(int failed, const char *what) {
	if (!failed)
		return;
	FILE *f = fopen("error", "a");
	fprintf(f, "%s: errno %d\n", what, errno);
	fclose(f);
	_exit(1);
}

static socklen_t address(struct sockaddr_in6 *a, const char *ip, int port) {
	int v6 = strchr(ip, ':') != NULL;
	*a = (struct sockaddr_in6){.sin6_family = v6 ? AF_INET6 : AF_INET, .sin6_port = htons(port)};
	check(inet_pton(a->sin6_family, ip, v6 ? (void *)&a->sin6_addr : &((struct sockaddr_in *)a)->sin_addr) != 1, "address");
	return v6 ? sizeof *a : sizeof(struct sockaddr_in);
}

static int make(char **argv) {
	struct sockaddr_in6 own, peer;
	socklen_t size = address(&own, argv[1], 0);
	address(&peer, argv[2], atoi(argv[3]));
	int fd = socket(own.sin6_family, SOCK_STREAM, 0), v6 = own.sin6_family == AF_INET6, on = 1, off = 0;
	int level = v6 ? IPPROTO_IPV6 : IPPROTO_IP, option = v6 ? IPV6_TRANSPARENT : IP_TRANSPARENT;
	check(setsockopt(fd, level, option, &on, sizeof on), "transparent");
	check(bind(fd, (void *)&own, size), "bind");
	check(connect(fd, (void *)&peer, size), "connect");
	if (!strcmp(argv[4], "off"))
		check(setsockopt(fd, level, option, &off, sizeof off), "not transparent");
	return fd;
}

int main(int argc, char **argv) {
	struct pollfd p[CONNECTIONS];
	for (int i = 0; i < CONNECTIONS; i++)
		p[i] = (struct pollfd){make(argv), POLLIN};
	static char b[65536];
	for (;;) {
		if (poll(p, CONNECTIONS, -1) < 0)
			check(errno != EINTR, "poll");
		for (int i = 0; i < CONNECTIONS; i++) {
			if (!p[i].revents)
				continue;
			ssize_t n = read(p[i].fd, b, sizeof b);
			check(n < 0, "read");
			if (n == 0)
				close(p[i].fd), p[i].fd = -1;
			for (ssize_t at = 0, k; at < n; at += k)
				check((k = write(p[i].fd, b + at, n - at)) <= 0, "write");
		}
	}
}
