// What is queued at unix sockets: files of all kinds, sockets inside of each
// other's queues, credentials of processes that are there, of others and of one
// that has ended, urgent data, messages that are larger than the receiver's
// buffer, and a queue so full that a writer waits.
#include "unix.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>

static char big[300000];

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	int p[2], q[2], r[2], more[253];
	for (int i = 0; i < (int)sizeof big; i++)
		big[i] = i * 7 + i / 256;

	// Files: one only in the queue, one that is open, too.
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, p));
	int file = CHECK(open("file", O_RDWR | O_CREAT, 0644)), pipes[2];
	CHECK(write(file, "contents", 8)), CHECK(pipe(pipes)), CHECK(write(pipes[1], "in the pipe", 11));
	CHECK(write(p[0], "before", 6));
	with(p[0], "files", 5, (int[]){file, pipes[0], pipes[1], CHECK(eventfd(7, 0)), CHECK(open("/dev/null", O_RDONLY))}, 5, NULL);
	CHECK(write(p[0], "after", 5));
	close(pipes[0]), close(pipes[1]);
	for (int i = 0; i < 253; i++)
		more[i] = i % 2 ? file : 0;
	with(p[0], "m", 1, more, 253, NULL);
	with(p[1], "the other way", 13, &file, 1, NULL);
	add("files", p[0]), add("files too", p[1]);

	// Sockets in queues, in their own among them.
	CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, p)), CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, q));
	int l = listening(SOCK_STREAM, NAME("\0glis in a queue"));
	CHECK(write(q[0], "nested", 6));
	with(p[0], "sockets", 7, (int[]){q[0], q[1], l, p[1]}, 4, NULL);
	with(q[0], "loop", 4, (int[]){q[1], p[0]}, 2, NULL);
	close(q[0]), close(q[1]), close(l);
	add("nest", p[0]), add("nest too", p[1]);

	// Credentials.
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, p)), CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, q));
	CHECK(write(p[0], "nobody's", 8));
	set(p[1], SO_PASSCRED, 1), set(q[1], SO_PASSCRED, 1);
	CHECK(write(p[0], "mine", 4));
	CHECK(write(q[0], "mine", 4));
	pid_t pid = CHECK(fork());
	if (!pid) {
		CHECK(setresgid(-1, 3001, -1)), CHECK(setresuid(-1, 3000, -1));
		CHECK(write(p[0], "of the dead", 11)), CHECK(write(q[0], "of the dead", 11));
		_exit(0);
	}
	CHECK(waitpid(pid, NULL, 0));
	known[knowns++] = pid;
	with(q[0], "as the first", 12, NULL, 0, &(struct ucred){1, 17, 18});
	with(p[0], "as the first", 12, &file, 1, &(struct ucred){1, 17, 18});
	set(q[1], SO_PASSCRED, 0);
	setsockopt(q[1], SOL_SOCKET, 76 /* SO_PASSPIDFD */, &(int){0}, sizeof(int));
	add("credentials", p[1]), add("credentials too", q[1]), add("sender", p[0]), add("sender too", q[0]);

	// Urgent data.
	for (int i = 0; i < 4; i++) {
		CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, p));
		set(p[1], SO_OOBINLINE, i & 1);
		if (i & 2)
			CHECK(write(p[0], "abc", 3));
		CHECK(send(p[0], "X", 1, MSG_OOB));
		CHECK(write(p[0], "def", 3));
		add("urgent", p[1]), add("urgent too", p[0]);
	}
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, p));
	CHECK(write(p[0], "abc", 3)), CHECK(send(p[0], "X", 1, MSG_OOB)), CHECK(write(p[0], "def", 3));
	char x;
	CHECK(recv(p[1], &x, 1, MSG_OOB));
	add("urgent, read", p[1]), add("urgent, read too", p[0]);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, p));
	CHECK(send(p[0], "X", 1, MSG_OOB)), CHECK(recv(p[1], &x, 1, MSG_OOB));
	add("only a place", p[1]), add("only a place too", p[0]);
	for (int i = 0; i < 2; i++) {
		CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, p));
		for (int k = 0; k < 3; k++) {
			CHECK(write(p[0], "abcdef", 2 + k)), CHECK(send(p[0], "X", 1, MSG_OOB));
			if (k < 2 || !i)
				CHECK(recv(p[1], &x, 1, MSG_OOB));
		}
		add(i ? "places and urgent" : "places", p[1]), add("places too", p[0]);
	}

	// Sizes.
	CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, p));
	set(p[1], SO_SNDBUF, 5000), set(p[0], SO_SNDBUF, 200000);
	CHECK(write(p[0], big, 190000));
	set(p[1], SO_PEEK_OFF, 100);
	add("large", p[0]), add("large too", p[1]);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, r));
	ctl_party("writer");
	pid = CHECK(fork());
	if (!pid) {
		ctl_child("writer");
		for (int i = 0; i < sks; i++)
			close(sk[i].fd);
		close(r[0]), close(file);
		CHECK(fcntl(r[1], F_SETFL, O_NONBLOCK));
		int n = 0, w;
		while ((w = write(r[1], big + n % 1000, 1000)) > 0)
			n += w;
		do
			obs("writer: %d bytes, then %zd", n, write(r[1], big, 1));
		while (savepoint());
		CHECK(fcntl(r[1], F_SETFL, 0));
		CHECK(read(r[1], &x, 1));
		CHECK(write(r[1], big, 200000)); // waits for the reader
		_exit(0);
	}
	close(r[1]);
	ctl_await("at", "writer");
	do
		look_all();
	while (savepoint());
	for (int i = 0; i < sks; i++)
		if (strncmp(sk[i].name, "urgent", 6) == 0) {
			obs("%s: %d %s", sk[i].name, (int)recv(sk[i].fd, &x, 1, MSG_OOB | MSG_PEEK), strerror(errno));
			take(sk[i].name, sk[i].fd, 2);
		}
	for (int i = 0; i < sks; i++)
		if (strcmp(sk[i].name, "places and urgent") == 0)
			obs("%s: urgent %d", sk[i].name, (int)recv(sk[i].fd, &x, 1, MSG_OOB));
	CHECK(write(r[0], "!", 1));
	uint64_t sum = 0;
	size_t all = 0;
	for (ssize_t n; (n = read(r[0], big, sizeof big)) > 0; all += n)
		for (int i = 0; i < n; i++)
			sum += (unsigned char)big[i];
	obs("from the writer %zu %llu", all, (unsigned long long)sum);
	CHECK(waitpid(pid, NULL, 0));
	talk();
	savepoint();
	return 0;
}
