// An epoll file of several processes, each of which has a part of what it watches: what
// the first one has closed, with a number that is free or another's by now, a child has.
#include "ctl.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

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
	char path[64], line[256];
	snprintf(path, sizeof path, "/proc/self/fdinfo/%d", ep);
	FILE *f = fopen(path, "re");
	unsigned fd, events;
	while (fgets(line, sizeof line, f))
		if (sscanf(line, "tfd: %u events: %x", &fd, &events) == 2)
			obs("watches %u for %x", fd, events);
	fclose(f);
}

static void watch(int ep, int fd, uint32_t events, uint64_t data) {
	CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &(struct epoll_event){events, {.u64 = data}}));
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	int p[2], s[2], ep = CHECK(epoll_create1(0)), own = CHECK(eventfd(1, 0)), ev = CHECK(eventfd(0, EFD_NONBLOCK));
	CHECK(pipe(p)), CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	watch(ep, own, EPOLLIN, 1), watch(ep, p[0], EPOLLIN, 2), watch(ep, ev, EPOLLIN, 3), watch(ep, s[1], EPOLLIN, 4);
	CHECK(write(p[1], "pipe", 4)), CHECK(write(s[0], "socket", 6));
	int pid = CHECK(fork());
	if (!pid) {
		ctl_child("child");
		close(p[1]), close(own);
		do {
			uint64_t n;
			char c;
			look(ep);
			obs("read %zd %zd %zd", read(p[0], &c, 1), read(ev, &n, 8), recv(s[1], &c, 1, MSG_DONTWAIT));
		} while (savepoint());
		_exit(0);
	}
	ctl_party("child");
	close(p[0]), close(s[1]), close(ev);
	MUST(CHECK(open("/dev/null", O_RDONLY)) == ev); // the lowest number
	while (savepoint())
		;
	reap(pid);
	return 0;
}
