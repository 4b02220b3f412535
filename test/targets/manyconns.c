// Thousands of TCP connections. As a server it has four children, each of which
// takes its part of them and gives back every number that comes; it writes its port
// to the file "port". As a client it has four, too, each of which sends one number
// over all its connections and wants them back, again and again; it appends a byte to
// the file "rounds.N" each time. Neither knows of being saved; both may have as many
// descriptors as the hard limit says.
// Arguments: how many, and, of the client, the server's port
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { CHILDREN = 4, MOST = 20000 };

static int fds[MOST];

static void fail(const char *what) {
	FILE *f = fopen("error", "a");
	fprintf(f, "%s: errno %d\n", what, errno);
	fclose(f);
	_exit(1);
}

static void note(const char *kind, int child) {
	char name[30];
	snprintf(name, sizeof name, "%s.%d", kind, child);
	int fd = open(name, O_WRONLY | O_CREAT | O_APPEND, 0644);
	if (fd < 0 || write(fd, ".", 1) != 1)
		fail("note");
	close(fd);
}

static void serve(int l, int n, int child) {
	int ep = epoll_create1(0);
	for (int i = 0; i < n; i++) {
		int fd = accept(l, NULL, NULL);
		if (fd < 0 || epoll_ctl(ep, EPOLL_CTL_ADD, fd, &(struct epoll_event){EPOLLIN, {.fd = fd}}))
			fail("accept");
	}
	note("ready", child);
	for (;;) {
		struct epoll_event e[64];
		int got = epoll_wait(ep, e, 64, -1);
		if (got < 0 && errno != EINTR)
			fail("epoll_wait");
		for (int i = 0; i < got; i++) {
			uint64_t x;
			if (read(e[i].data.fd, &x, sizeof x) != sizeof x || write(e[i].data.fd, &x, sizeof x) != sizeof x)
				fail("give back");
		}
	}
}

static void ask(struct sockaddr_in *at, int n, int child) {
	for (int i = 0; i < n; i++)
		if ((fds[i] = socket(AF_INET, SOCK_STREAM, 0)) < 0 || connect(fds[i], (void *)at, sizeof *at))
			fail("connect");
	for (uint64_t round = 1;; round++) {
		for (int i = 0; i < n; i++)
			if (write(fds[i], &(uint64_t){round << 32 | i}, 8) != 8)
				fail("ask");
		for (int i = 0; i < n; i++) {
			uint64_t x;
			if (recv(fds[i], &x, sizeof x, MSG_WAITALL) != sizeof x || x != (round << 32 | i))
				fail("another answer");
		}
		note("rounds", child);
		nanosleep(&(struct timespec){0, 50000000}, NULL);
	}
}

int main(int argc, char **argv) {
	struct sockaddr_in at = {AF_INET};
	socklen_t len = sizeof at;
	struct rlimit most;
	getrlimit(RLIMIT_NOFILE, &most);
	most.rlim_cur = most.rlim_max;
	setrlimit(RLIMIT_NOFILE, &most);
	int n = atoi(argv[1]) / CHILDREN, l = -1;
	if (argc > 2) {
		at.sin_port = htons(atoi(argv[2]));
	} else {
		l = socket(AF_INET, SOCK_STREAM, 0);
		if (bind(l, (void *)&at, sizeof at) || listen(l, 4096) || getsockname(l, (void *)&at, &len))
			fail("listen");
	}
	for (int i = 0; i < CHILDREN; i++)
		if (!fork()) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			at.sin_addr.s_addr = htonl(INADDR_LOOPBACK + i); // so that there are ports enough
			if (l < 0)
				ask(&at, n, i);
			serve(l, n, i);
		}
	if (l >= 0) {
		FILE *f = fopen("port.new", "w");
		fprintf(f, "%d", ntohs(at.sin_port));
		fclose(f);
		rename("port.new", "port");
	}
	while (wait(NULL) > 0)
		;
	return 1;
}
