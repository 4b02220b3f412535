// Many pairs of connected unix sockets that only this task has, with messages of all
// sizes in both ways: as many pairs as argv[1] says, and messages of up to argv[2] bytes.
#include "ctl.h"
#include <sys/resource.h>
#include <sys/socket.h>

static char buf[1 << 15], got[1 << 15];

static size_t size(int i, int end, size_t most) { return i % 5 ? (i * 7919u + end * 104729u) % most + 1 : most; }

static char *contents(int i, int end, size_t n) {
	for (size_t k = 0; k < n; k++)
		buf[k] = k * 31 + k / 256 + i * 7 + end;
	return buf;
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	enum { first = 10 };
	int n = atoi(argv[1]);
	size_t most = atoi(argv[2]);
	CHECK(setrlimit(RLIMIT_NOFILE, &(struct rlimit){2 * n + 50, 2 * n + 50}));
	for (int i = 0; i < n; i++) {
		int s[2];
		CHECK(socketpair(AF_UNIX, i % 3 ? SOCK_STREAM : SOCK_SEQPACKET, 0, s));
		for (int end = 0; end < 2; end++) {
			size_t len = size(i, end, most);
			CHECK(send(s[end], contents(i, end, len), len, 0));
			CHECK(dup2(s[end], first + 2 * n - 2 * i - end)); // not in the order in which they come
		}
		close(s[0]), close(s[1]);
	}
	do
		obs("%d pairs", n);
	while (savepoint());
	int good = 0;
	for (int i = 0; i < n; i++)
		for (int end = 0; end < 2; end++) {
			size_t len = size(i, end, most);
			ssize_t have = recv(first + 2 * n - 2 * i - !end, got, sizeof got, MSG_DONTWAIT);
			good += have == (ssize_t)len && !memcmp(got, contents(i, end, len), len);
		}
	obs("%d of %d are as they were", good, 2 * n);
	savepoint();
	return 0;
}
