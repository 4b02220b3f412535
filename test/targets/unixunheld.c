// Sockets that are only in messages of connections that nobody has accepted: pairs, one end
// or both, with what is queued at them, sockets that are bound, that listen, whose clients
// wait, and a client that has sent itself.
#include "unix.h"

static int fds[64], n;

static int keep(int fd) { return fds[n++] = CHECK(fd); }
static void pair(int type, int *p) { CHECK(socketpair(AF_UNIX, type, 0, p)); }
static void say(int fd, const char *text) { MUST(send(fd, text, strlen(text), 0) == (ssize_t)strlen(text)); }

// accept_all accepts what waits, and looks at it.
static void accept_all(int l) {
	for (int s; (s = accept4(l, NULL, NULL, SOCK_NONBLOCK)) >= 0;)
		look("accepted", add("accepted", s));
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	int p[2], q[2], lonely[2];
	int l = add("door", listening(SOCK_STREAM, NAME("door"))), c = add("client", client(SOCK_STREAM, NAME("door")));
	CHECK(fcntl(l, F_SETFL, O_NONBLOCK));
	// One end here, of each type, with data both ways, and options.
	for (int i = 0; i < 3; i++) {
		int type = (int[]){SOCK_STREAM, SOCK_SEQPACKET, SOCK_DGRAM}[i];
		pair(type | SOCK_NONBLOCK, p), add("mine", p[0]), keep(p[1]);
		set(p[1], SO_PASSCRED, 1), say(p[0], "to the one that is away"), say(p[0], "once more"), say(p[1], "from it");
		set(p[1], SO_SNDBUF, 50000 + i);
	}
	// Both in messages; one of them in the other's queue, with a pipe; half shut down.
	for (int i = 0; i < 3; i++) {
		int type = (int[]){SOCK_STREAM, SOCK_SEQPACKET, SOCK_DGRAM}[i];
		pair(type, p), keep(p[0]), keep(p[1]), say(p[0], "within"), say(p[1], "the other way");
		pair(type, p), CHECK(pipe(q)), CHECK(write(q[1], "piped", 5)), pair(type, lonely), say(lonely[1], "deep");
		with(p[0], "nest", 4, (int[]){lonely[0], q[0], q[1]}, 3, NULL), keep(p[1]), keep(p[0]), CHECK(shutdown(p[0], SHUT_WR));
		close(lonely[0]), close(lonely[1]), close(q[0]), close(q[1]);
		// The other end has gone, or went elsewhere, and has not read all.
		pair(type, p), say(p[0], "unread"), keep(p[0]);
		if (type == SOCK_DGRAM)
			CHECK(connect(p[1], &(struct sockaddr){AF_UNSPEC}, sizeof(struct sockaddr))), add("elsewhere", p[1]);
		else
			say(p[1], "and these"), close(p[1]);
		// The other end is closed.
		pair(type, p), say(p[1], "last words"), keep(p[0]), close(p[1]);
	}
	int one = CHECK(socket(AF_UNIX, SOCK_STREAM, 0));
	keep(one);
	// Names, and datagrams to one from several.
	keep(bound(SOCK_STREAM, NAME("path")));
	int d = keep(bound(SOCK_DGRAM, NAME("\0glis unheld dgram"))), a = add("sender", client(SOCK_DGRAM, NAME("\0glis unheld dgram"))), b = client(SOCK_DGRAM, NAME("\0glis unheld dgram"));
	say(a, "first"), say(b, "second"), say(a, "third"), close(b), (void)d;
	// Listeners, whose clients are here, in the same message, or closed.
	int m = keep(listening(SOCK_STREAM, NAME("second door"))), s = keep(listening(SOCK_SEQPACKET, NAME("\0glis unheld door")));
	(void)m, (void)s;
	say(add("to second", client(SOCK_STREAM, NAME("second door"))), "knock"), say(keep(client(SOCK_STREAM, NAME("second door"))), "knock too");
	b = client(SOCK_SEQPACKET, NAME("\0glis unheld door")), say(b, "knock and go"), close(b);
	// An accepted one.
	b = add("to accepted", client(SOCK_STREAM, NAME("door"))), (void)b;
	int other = CHECK(accept(l, NULL, NULL)); // the first client, whose turn it was
	say(other, "accepted");
	int e = add("messenger", client(SOCK_STREAM, NAME("door")));
	keep(other);
	with(e, "files", 5, fds, n, NULL);
	for (int i = 0; i < n; i++)
		CHECK(close(fds[i]));
	// A client that has sent itself.
	int f = client(SOCK_STREAM, NAME("door"));
	with(f, "myself", 6, &f, 1, NULL), close(f);
	(void)c;
	do
		look_all();
	while (savepoint());

	anew = 1, accept_all(l);
	for (int i = 0; i < sks; i++) { // which grows
		if (option(sk[i].fd, SO_ACCEPTCONN))
			CHECK(fcntl(sk[i].fd, F_SETFL, O_NONBLOCK)), accept_all(sk[i].fd);
		else {
			look(sk[i].name, sk[i].fd);
			drain(sk[i].name, sk[i].fd);
		}
	}
	talk();
	savepoint();
	return 0;
}
