// Clients of services outside of the tree: argv has the names of a datagram
// socket, of a stream and of a seqpacket server that answer what they are told.
// With argv[4] one end of a pair whose other end is outside is descriptor 3.
#include "unix.h"

// ask tells a server something and notes its answer.
static void ask(const char *name, int fd) {
	char line[200];
	int n = snprintf(line, sizeof line, "%s asks", name);
	obs("%s: wrote %zd", name, CHECK(write(fd, line, n)) - n);
	n = CHECK(read(fd, line, sizeof line));
	obs("%s: hears %.*s", name, n, line);
}

// log sends a message that nobody answers.
static void log_to(const char *name, int fd) { obs("%s: %d", name, (int)CHECK(write(fd, name, strlen(name)))); }

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	int named, d1 = client(SOCK_DGRAM, NAME(argv[1])), d2 = to(named = bound(SOCK_DGRAM, NAME("client")), NAME(argv[1]));
	int s1 = client(SOCK_STREAM, NAME(argv[2])), s2, q;
	CHECK(setgroups(2, (gid_t[]){71, 72})), CHECK(setresgid(-1, 3001, -1)), CHECK(setresuid(-1, 3000, -1));
	s2 = client(SOCK_STREAM, NAME(argv[2]));
	CHECK(setresuid(-1, 0, -1)), CHECK(setresgid(-1, 0, -1)), CHECK(setgroups(0, NULL));
	q = to(bound(SOCK_SEQPACKET, NAME("client2")), NAME(argv[3]));
	fcntl(s2, F_SETFL, O_NONBLOCK | O_RDWR), fcntl(s2, F_SETFL, O_RDWR);
	set(d2, SO_SNDBUF, 30000);
	add("log", d1), add("named log", d2), add("stream", s1), add("stream of a user", s2), add("packets", q);
	do {
		look_all();
		log_to("log", d1), log_to("named log", d2);
		ask("stream", s1), ask("stream of a user", s2), ask("packets", q);
	} while (savepoint());
	return 0;
}
