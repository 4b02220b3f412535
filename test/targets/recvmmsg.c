// Waits in recvmmsg(2) for more messages than there are, and then tells what the next call
// says, which is to wait for none.
#include "ctl.h"
#include <sys/socket.h>

int main(int argc, char **argv) {
	int s[2], limited = argc > 2;
	ctl_init(argc, argv);
	CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, s));
	struct timeval hour = {3600, 0};
	if (limited)
		CHECK(setsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &hour, sizeof hour));
	CHECK(write(s[1], "a", 1));
	char b[2][8];
	struct iovec at[2] = {{b[0], 8}, {b[1], 8}};
	struct mmsghdr m[2] = {{.msg_hdr = {.msg_iov = at, .msg_iovlen = 1}}, {.msg_hdr = {.msg_iov = at + 1, .msg_iovlen = 1}}};
	int got = CHECK(recvmmsg(s[0], m, 2, 0, NULL)), next = recvmmsg(s[0], m, 1, MSG_DONTWAIT, NULL);
	int e = next < 0 ? errno : 0;
	char says[400];
	ctl_path(says, "says", NULL);
	int f = CHECK(open(says, O_CREAT | O_WRONLY, 0600));
	dprintf(f, "%d, %d %d.", got, next, e);
	for (;;)
		pause();
}
