// Connections that wait to be accepted, with descriptors that are in no process: files,
// eventfds, one of them in two connections.
#include "unix.h"
#include <sys/eventfd.h>

// receive accepts a connection and takes the descriptors that came along.
static void receive(int l, int *fd, int n) {
	char data[8], control[CMSG_SPACE(8 * sizeof(int))];
	struct iovec v = {data, sizeof data};
	struct msghdr m = {NULL, 0, &v, 1, control, sizeof control, 0};
	int s = CHECK(accept(l, NULL, NULL));
	MUST(CHECK(recvmsg(s, &m, 0)) == 5 && CMSG_FIRSTHDR(&m)->cmsg_len == CMSG_LEN(n * sizeof(int)));
	memcpy(fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), n * sizeof(int));
	close(s);
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	CHECK(mkdir("d", 0755));
	int l = add("door", listening(SOCK_STREAM, NAME("d/door"))), fd[4];
	fd[0] = CHECK(open("d/file", O_RDWR | O_CREAT | O_APPEND, 0640)), fd[1] = CHECK(eventfd(5, EFD_SEMAPHORE | EFD_NONBLOCK));
	CHECK(write(fd[0], "contents", 8)), CHECK(lseek(fd[0], 3, SEEK_SET));
	fd[2] = CHECK(open("d/file", O_RDONLY)), fd[3] = CHECK(eventfd(0, 0));
	uint64_t big = 0xfffffffffffffff0, n = 0;
	CHECK(write(fd[3], &big, sizeof big));
	int c = add("client", client(SOCK_STREAM, NAME("d/door"))), second = add("second", client(SOCK_STREAM, NAME("d/door")));
	with(c, "files", 5, fd, 4, NULL), with(second, "again", 5, fd, 2, NULL);
	for (int i = 0; i < 4; i++)
		close(fd[i]);
	do
		look_all();
	while (savepoint());
	int again[2];
	char text[20] = "";
	receive(l, fd, 4), receive(l, again, 2);
	for (int i = 0; i < 4; i++) {
		struct stat st;
		CHECK(fstat(fd[i], &st));
		obs("%d: mode %o flags %o", i, st.st_mode, fcntl(fd[i], F_GETFL));
	}
	CHECK(read(again[0], text, 3));
	obs("file: at %lld, %s, other at %lld", (long long)lseek(fd[0], 0, SEEK_CUR), text, (long long)lseek(fd[2], 0, SEEK_CUR));
	CHECK(write(fd[0], "more", 4)), CHECK(read(fd[2], text, 12));
	obs("then %s", text);
	for (int i = 0; i < 6; i++) {
		ssize_t r = read(i & 1 ? again[1] : fd[1], &n, sizeof n);
		obs("count %zd %llu", r, (unsigned long long)(r < 0 ? 0 : n));
	}
	CHECK(read(fd[3], &n, sizeof n)), obs("much: %llx", (unsigned long long)n);
	savepoint();
	return 0;
}
