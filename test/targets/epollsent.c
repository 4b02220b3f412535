// An epoll file that nobody has: it is in two messages at a socket that it watches
// itself, beside a pipe, an eventfd, and one whose number was closed since.
#include "ctl.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

enum { GONE = 300 };

static void send_it(int to, int fd) {
	char c = 'x', control[CMSG_SPACE(sizeof fd)] = {};
	struct iovec iov = {&c, 1};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);
	*h = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof fd)};
	memcpy(CMSG_DATA(h), &fd, sizeof fd);
	MUST(CHECK(sendmsg(to, &m, 0)) == 1);
}

static int receive(int from) {
	int fd;
	char c, control[CMSG_SPACE(sizeof fd)];
	struct iovec iov = {&c, 1};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
	MUST(CHECK(recvmsg(from, &m, MSG_CMSG_CLOEXEC)) == 1 && m.msg_controllen);
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof fd);
	return fd;
}

static int by_data(const void *a, const void *b) {
	const struct epoll_event *x = a, *y = b;
	return x->data.u64 < y->data.u64 ? -1 : x->data.u64 > y->data.u64;
}

static void look(int ep) {
	struct epoll_event e[16];
	int n = CHECK(epoll_wait(ep, e, 16, 0));
	qsort(e, n, sizeof *e, by_data);
	for (int i = 0; i < n; i++)
		obs("ready: events %x data %llx", e[i].events, (unsigned long long)e[i].data.u64);
}

static void watch(int ep, int fd, uint32_t events, uint64_t data) {
	CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &(struct epoll_event){events, {.u64 = data}}));
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	int s[2], p[2], ev = CHECK(eventfd(3, 0)), moved = CHECK(eventfd(1, 0)), ep = CHECK(epoll_create1(0));
	CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, s));
	CHECK(pipe(p));
	watch(ep, s[1], EPOLLIN, 1);
	watch(ep, p[0], EPOLLIN, 0x1122334455667788);
	watch(ep, ev, EPOLLIN | EPOLLOUT, 3);
	CHECK(dup2(moved, GONE));
	watch(ep, GONE, EPOLLIN, 4);
	close(GONE);
	send_it(s[0], ep), send_it(s[0], ep);
	close(ep);
	do {
		ep = receive(s[1]);
		int again = receive(s[1]);
		look(ep);
		send_it(s[0], ep);
		CHECK(write(p[1], "x", 1));
		look(again); // the same file
		char c;
		CHECK(read(p[0], &c, 1));
		// Each member is known by its number.
		CHECK(epoll_ctl(ep, EPOLL_CTL_MOD, ev, &(struct epoll_event){EPOLLIN, {.u64 = 5}}));
		CHECK(epoll_ctl(ep, EPOLL_CTL_DEL, p[0], NULL));
		watch(ep, p[0], EPOLLIN, 6);
		look(again);
		send_it(s[0], again);
		close(ep), close(again);
	} while (savepoint());
	return 0;
}
