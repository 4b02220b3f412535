// Datagram sockets: connected to one with a name, without one, to itself, in a
// ring, to one that is closed or was left; with messages of many senders, open
// and closed, whose peer is another one by now. Seqpacket sockets alike.
#include "unix.h"

static void send_to(int fd, const char *text, const char *name, size_t len) {
	struct sockaddr_un un;
	socklen_t n = address(&un, name, len);
	CHECK(sendto(fd, text, strlen(text), 0, (void *)&un, n));
}

static void leave(int fd) { CHECK(connect(fd, (void *)&(struct sockaddr_un){AF_UNSPEC}, sizeof(struct sockaddr_un))); }

// deserted makes sockets with an error, since their peers left unread messages
// behind.
static void deserted(int c) {
	int p[2];
	CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, p));
	CHECK(write(p[1], "before it left", 14)), CHECK(write(p[0], "never read", 10));
	send_to(p[0], "before the error", NAME("d/c"));
	leave(p[1]);
	add("deserted", p[0]), add("deserted it", p[1]);
	CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, p));
	CHECK(write(p[0], "never read", 10));
	to(p[1], NAME("d/server")), to(p[0], NAME("d/server"));
	add("deserted, and left", p[0]), add("deserted it, too", p[1]);
	CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, p));
	CHECK(write(p[0], "never read", 10));
	leave(p[1]), leave(p[0]), close(p[1]);
	add("deserted, alone", p[0]);
	int g = add("deserted by name", bound(SOCK_DGRAM, NAME("d/g"))), h = add("deserted it by name", bound(SOCK_DGRAM, NAME("\0glis h")));
	send_to(c, "to g", NAME("d/g"));
	to(g, NAME("\0glis h")), to(h, NAME("d/g"));
	CHECK(write(h, "to g", 4)), CHECK(write(g, "never read", 10));
	leave(h), to(h, NAME("d/g"));
	g = add("deserted by who closed", bound(SOCK_DGRAM, NAME("d/g2"))), h = bound(SOCK_DGRAM, NAME("\0glis h2"));
	send_to(c, "to g2", NAME("d/g2"));
	to(g, NAME("\0glis h2")), to(h, NAME("d/g2"));
	CHECK(write(g, "never read", 10));
	leave(h), close(h);
	// No error: both left, one after the other, and what came in between waits.
	CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, p));
	leave(p[1]);
	CHECK(write(p[0], "in between", 10));
	leave(p[0]);
	add("left second", p[0]), add("left first", p[1]);
}

// states makes all that a socket of datagrams without a peer can be: who connects to it, and
// leaves it or is closed, decides whether the kernel calls it connected.
static void states(void) {
	int a = add("was met", bound(SOCK_DGRAM, NAME("d/met")));
	close(client(SOCK_DGRAM, NAME("d/met")));
	add("was met, abstract", bound(SOCK_DGRAM, NAME("\0glis met")));
	close(client(SOCK_DGRAM, NAME("\0glis met")));
	add("is met", bound(SOCK_DGRAM, NAME("\0glis is met")));
	add("meets", client(SOCK_DGRAM, NAME("\0glis is met")));
	add("was met and left", bound(SOCK_DGRAM, NAME("\0glis left")));
	add("left it", client(SOCK_DGRAM, NAME("\0glis left")));
	leave(sk[sks - 1].fd);
	add("is met, was left", bound(SOCK_DGRAM, NAME("d/left")));
	add("stays", client(SOCK_DGRAM, NAME("d/left")));
	int b = client(SOCK_DGRAM, NAME("d/left"));
	to(b, NAME("d/met")), to(b, NAME("\0glis is met")), close(b);
	add("stays at d/met", client(SOCK_DGRAM, NAME("d/met")));
	add("deleted, was met", bound(SOCK_DGRAM, NAME("d/deleted")));
	close(client(SOCK_DGRAM, NAME("d/deleted")));
	CHECK(unlink("d/deleted"));
	CHECK(shutdown(a, SHUT_RD));
	b = add("had a peer", bound(SOCK_DGRAM, NAME("\0glis had")));
	int c = bound(SOCK_DGRAM, NAME("\0glis had it"));
	to(b, NAME("\0glis had it")), close(c);
	CHECK(send(b, "x", 1, 0) < 0 && errno == ECONNREFUSED);
	b = add("had a peer, was met then", bound(SOCK_DGRAM, NAME("\0glis had 2")));
	c = bound(SOCK_DGRAM, NAME("\0glis had it"));
	to(b, NAME("\0glis had it")), close(c);
	CHECK(send(b, "x", 1, 0) < 0);
	close(client(SOCK_DGRAM, NAME("\0glis had 2")));
}

static void all_connected(void) {
	for (int i = 0; i < sks; i++)
		connected(sk[i].name, sk[i].fd);
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	CHECK(mkdir("d", 0755));
	known[knowns++] = getppid();
	int p[2];
	add("server", bound(SOCK_DGRAM, NAME("d/server")));
	int a = add("a", client(SOCK_DGRAM, NAME("d/server")));
	int b = add("b", to(bound(SOCK_DGRAM, NAME("\0glis b")), NAME("d/server")));
	int c = add("c", bound(SOCK_DGRAM, NAME("d/c")));
	CHECK(write(a, "from a", 6)), CHECK(write(b, "from b", 6));
	send_to(c, "from c", NAME("d/server"));
	int gone = bound(SOCK_DGRAM, NAME("d/gone"));
	send_to(gone, "from the dead", NAME("d/server"));
	close(gone);
	gone = bound(SOCK_DGRAM, NAME("\0glis gone"));
	send_to(gone, "again", NAME("d/server"));
	close(gone);
	gone = CHECK(socket(AF_UNIX, SOCK_DGRAM, 0));
	send_to(gone, "from nobody", NAME("d/server"));
	close(gone);
	CHECK(write(b, "b once more", 11));

	// Those that are connected to it may send to it; it has its own peer.
	int d = add("d", bound(SOCK_DGRAM, NAME("\0glis d")));
	add("to d", client(SOCK_DGRAM, NAME("\0glis d")));
	send_to(c, "before it was connected", NAME("\0glis d"));
	to(d, NAME("d/c"));
	CHECK(write(d, "from d", 6));
	// Each the other's.
	int e = add("e", bound(SOCK_DGRAM, NAME("d/e"))), f = add("f", bound(SOCK_DGRAM, NAME("\0glis f")));
	to(e, NAME("\0glis f")), to(f, NAME("d/e"));
	CHECK(write(e, "one", 3)), CHECK(write(f, "two", 3));
	int self = add("self", bound(SOCK_DGRAM, NAME("\0glis self")));
	to(self, NAME("\0glis self"));
	CHECK(write(self, "me", 2)), CHECK(write(self, "too", 3));
	int removed = add("removed", bound(SOCK_DGRAM, NAME("d/removed")));
	add("to removed", client(SOCK_DGRAM, NAME("d/removed")));
	CHECK(write(sk[sks - 1].fd, "still there", 11));
	CHECK(unlink("d/removed"));
	set(removed, SO_RCVBUF, 4000);

	gone = bound(SOCK_DGRAM, NAME("d/closed"));
	add("to closed", client(SOCK_DGRAM, NAME("d/closed")));
	int last = add("to closed, with a name", to(bound(SOCK_DGRAM, NAME("\0glis last")), NAME("d/closed")));
	CHECK(shutdown(last, SHUT_RD));
	close(gone);
	CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, p));
	CHECK(write(p[1], "left", 4));
	add("pair, closed", p[0]), close(p[1]);
	CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, p));
	CHECK(write(p[1], "before it left", 14));
	leave(p[1]);
	add("pair, left", p[0]), add("pair, leaver", p[1]);
	CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, p));
	to(p[1], NAME("d/server"));
	CHECK(write(p[1], "changed sides", 13));
	add("pair, deserted", p[0]), add("pair, deserter", p[1]);
	for (int i = 0; i < 2; i++) { // one has left who it was made with, and another one came before it went to one that is closed
		CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, p));
		struct sockaddr_un un;
		socklen_t n = address(&un, i ? "\0glis moved 1" : "\0glis moved 0", 14);
		CHECK(bind(p[0], (void *)&un, n));
		leave(p[0]), close(p[1]);
		add(i ? "to who moved, shut" : "to who moved", client(SOCK_DGRAM, i ? "\0glis moved 1" : "\0glis moved 0", 14));
		gone = bound(SOCK_DGRAM, NAME("\0glis moved to"));
		to(p[0], NAME("\0glis moved to")), close(gone);
		add(i ? "moved, shut" : "moved", p[0]);
		if (i)
			CHECK(shutdown(p[0], SHUT_RDWR));
	}
	CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, p));
	CHECK(write(p[0], "plain", 5));
	add("pair", p[0]), add("pair too", p[1]);

	deserted(c);
	states();

	int l = add("listener", listening(SOCK_SEQPACKET, NAME("d/seq")));
	int s = add("seq", client(SOCK_SEQPACKET, NAME("d/seq"))), t = add("seq accepted", accept(l, NULL, NULL));
	CHECK(write(s, "one", 3)), CHECK(write(t, "back", 4));
	CHECK(shutdown(s, SHUT_WR));
	s = add("seq reset", client(SOCK_SEQPACKET, NAME("d/seq"))), t = accept(l, NULL, NULL);
	CHECK(write(s, "never read", 10)), close(t);
	do
		look_all(), all_connected();
	while (savepoint());
	talk();
	all_connected();
	talk();
	savepoint();
	return 0;
}
