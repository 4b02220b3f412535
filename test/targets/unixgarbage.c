// Sockets with names that are in queues of sockets which are in their own: when all
// are closed, Linux 6.18 never finds that nobody can have them any more, and they keep
// their names. The same with clients that wait to be accepted.
#include "unix.h"

// knot ties a socket with a name to a pair: each is in the other's queue.
static void knot(const char *what, const char *name, int len) {
	int p[2], x = add(what, bound(SOCK_DGRAM, name, len)), c = client(SOCK_DGRAM, name, len);
	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, p));
	with(c, "pair", 4, p, 2, NULL), close(c);
	with(p[0], "name", 4, &x, 1, NULL), with(p[1], "name", 4, &x, 1, NULL);
	add("one", p[0]), add("other", p[1]);
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	char name[32] = "", path[] = "garbage";
	int len = sprintf(name + 1, "glis garbage %d", getpid()) + 1, p[2];
	knot("path", NAME(path)), knot("abstract", name, len);
	// The pair's other queue is that of a client which waits.
	int l = add("listener", listening(SOCK_STREAM, name, len)), c = add("client", client(SOCK_STREAM, name, len));
	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, p));
	with(c, "pair", 4, p, 2, NULL), close(c), sks--;
	with(p[0], "door", 4, &l, 1, NULL), with(p[1], "door", 4, &l, 1, NULL);
	add("one", p[0]), add("other", p[1]);
	do
		look_all();
	while (savepoint());
	for (int fd; fcntl(l, F_SETFL, O_NONBLOCK), (fd = accept(l, NULL, NULL)) >= 0; close(fd))
		drain("accepted", fd);
	int n = sks;
	for (int i = 0; i < n; i++)
		if (sk[i].fd != l)
			drain(sk[i].name, sk[i].fd);
	savepoint();
	return 0;
}
