// Clients that wait to be accepted, are closed, and had abstract names that other
// sockets have by now: a plain one, one of a pair, a client that waits, too, and
// listeners at which others wait, or whose connections were accepted.
#include "unix.h"

static int other = -1; // a descriptor that comes along

// gone connects a client with a name, has it say something, and closes it.
static void gone(int type, const char *name, const char *to_whom, size_t len, const char *text) {
	int c = to(bound(type, name, 10), to_whom, len);
	with(c, text, strlen(text), &other, other >= 0, NULL);
	close(c);
}

static char names[80][40];
static int n;

static void accept_all(const char *name, int l) {
	CHECK(fcntl(l, F_SETFL, O_NONBLOCK));
	for (int fd; (fd = accept(l, NULL, NULL)) >= 0;) {
		snprintf(names[n], sizeof *names, "%s, accepted %d", name, n);
		look(names[n], fd), drain(names[n], fd);
		add(names[n++], fd);
	}
	obs("%s: then %s", name, strerror(errno));
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	int door = add("door", listening(SOCK_STREAM, NAME("\0glis door"))), seq = add("seq", listening(SOCK_SEQPACKET, NAME("seq")));
	// A plain one, which came along with the message of who had its name.
	other = CHECK(socket(AF_UNIX, SOCK_STREAM, 0));
	gone(SOCK_STREAM, "\0rebound 1", NAME("\0glis door"), "one");
	struct sockaddr_un un;
	socklen_t len = address(&un, "\0rebound 1", 10);
	CHECK(bind(other, (void *)&un, len));
	add("plain", other), other = -1;
	// Two, one after the other, and a third one, which waits.
	gone(SOCK_STREAM, "\0rebound 2", NAME("\0glis door"), "two");
	gone(SOCK_STREAM, "\0rebound 2", NAME("\0glis door"), "two again");
	int c = add("open", to(bound(SOCK_STREAM, "\0rebound 2", 10), NAME("\0glis door")));
	CHECK(write(c, "and open", 8));
	// A listener, to which such a client is connected, whose name another listener has.
	gone(SOCK_STREAM, "\0rebound 3", NAME("\0glis door"), "three");
	int l3 = add("third", listening(SOCK_STREAM, "\0rebound 3", 10));
	add("of third", client(SOCK_STREAM, "\0rebound 3", 10));
	gone(SOCK_STREAM, "\0rebound 4", "\0rebound 3", 10, "four");
	int l4 = listening(SOCK_STREAM, "\0rebound 4", 10);
	add("of fourth", client(SOCK_STREAM, "\0rebound 4", 10)), add("accepted by fourth", CHECK(accept(l4, NULL, NULL)));
	add("of fourth, waits", client(SOCK_STREAM, "\0rebound 4", 10));
	CHECK(write(sk[sks - 1].fd, "waits", 5));
	gone(SOCK_STREAM, "\0rebound 5", "\0rebound 4", 10, "five");
	add("fourth", l4);
	// One of a pair, and one that was accepted from a listener of that name, before.
	int p[2];
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, p));
	len = address(&un, "\0rebound 5", 10);
	CHECK(bind(p[0], (void *)&un, len));
	add("pair", p[0]), add("pair too", p[1]);
	CHECK(write(p[0], "queued", 6));
	int l = listening(SOCK_SEQPACKET, "\0rebound 6", 10);
	add("of sixth", client(SOCK_SEQPACKET, "\0rebound 6", 10)), add("accepted by sixth", CHECK(accept(l, NULL, NULL)));
	close(l);
	gone(SOCK_SEQPACKET, "\0rebound 6", NAME("seq"), "six");
	// A client with a name that is accepted: the other end's name is its own.
	gone(SOCK_SEQPACKET, "\0rebound 7", NAME("seq"), "seven");
	add("packets", to(bound(SOCK_SEQPACKET, "\0rebound 7", 10), NAME("seq")));
	// A pair one of which has the name of a listener that is gone, as has who was accepted.
	l = listening(SOCK_STREAM, "\0rebound 8", 10);
	add("of eighth", client(SOCK_STREAM, "\0rebound 8", 10)), add("accepted by eighth", CHECK(accept(l, NULL, NULL)));
	close(l);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, p));
	len = address(&un, "\0rebound 8", 10);
	CHECK(bind(p[1], (void *)&un, len));
	add("eighth pair", p[0]), add("eighth pair too", p[1]);
	// One that is connected by way of the listener of another one, whose name a third one
	// has by now, and has the name of a fourth one's: all listeners are gone, and two of
	// the clients.
	int heir = add("heir", CHECK(socket(AF_UNIX, SOCK_STREAM, 0)));
	l = listening(SOCK_STREAM, "\0rebound 9", 10), c = client(SOCK_STREAM, "\0rebound 9", 10);
	int third = CHECK(accept(l, NULL, NULL));
	close(c), close(l);
	l = listening(SOCK_STREAM, NAME("\0glis rebound")), c = client(SOCK_STREAM, NAME("\0glis rebound"));
	add("first of ninth", CHECK(accept(l, NULL, NULL))), close(c);
	add("third of ninth", third), add("ninth", to(bound(SOCK_STREAM, "\0rebound 9", 10), NAME("\0glis rebound")));
	add("accepted from ninth", CHECK(accept(l, NULL, NULL))), close(l);
	len = address(&un, NAME("\0glis rebound"));
	CHECK(bind(heir, (void *)&un, len));
	do
		look_all();
	while (savepoint());
	anew = 1;
	accept_all("door", door), accept_all("third", l3), accept_all("fourth", l4), accept_all("seq", seq);
	for (int i = 1; i <= 9; i++) {
		char name[] = "\0rebound 0";
		name[9] += i;
		for (int type = SOCK_STREAM; type <= SOCK_SEQPACKET; type += SOCK_SEQPACKET - SOCK_STREAM) {
			int fd = CHECK(socket(AF_UNIX, type, 0));
			len = address(&un, name, 10);
			int bind_to = bind(fd, (void *)&un, len), e = errno;
			obs("%d, type %d: bind %d %s", i, type, bind_to, bind_to ? strerror(e) : "");
			close(fd);
		}
	}
	look_all();
	talk();
	savepoint();
	return 0;
}
