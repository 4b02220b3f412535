// Epoll: members with their events and data, edge-triggered and one-shot
// ones, one in another epoll; in mode "more" also a member whose number was
// closed after a dup and one number watched for two files.
#include "ctl.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>

static int ep;

static int by_data(const void *a, const void *b) {
	const struct epoll_event *x = a, *y = b;
	return x->data.u64 < y->data.u64 ? -1 : x->data.u64 > y->data.u64;
}

static void ready(const char *what, int fd) {
	struct epoll_event e[16];
	int n = CHECK(epoll_wait(fd, e, 16, 0));
	qsort(e, n, sizeof *e, by_data);
	for (int i = 0; i < n; i++)
		obs("%s events %x data %llx", what, e[i].events, (unsigned long long)e[i].data.u64);
	obs("%s %d ready", what, n);
}

static void add(int fd, uint32_t events, uint64_t data) {
	CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &(struct epoll_event){events, {.u64 = data}}));
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	int p[2], et[2], outer = CHECK(epoll_create1(0)), more = !strcmp(argv[1], "more");
	ep = CHECK(epoll_create1(EPOLL_CLOEXEC));
	CHECK(pipe(p)), CHECK(pipe(et));
	int one = CHECK(eventfd(0, EFD_NONBLOCK)), gone = CHECK(eventfd(0, 0)), full = CHECK(eventfd(3, 0));
	add(p[0], EPOLLIN, 0x1122334455667788);
	add(et[0], EPOLLIN | EPOLLET, 2);
	add(one, EPOLLIN | EPOLLONESHOT, 3);
	add(full, EPOLLIN | EPOLLOUT | EPOLLRDHUP, 4);
	CHECK(epoll_ctl(outer, EPOLL_CTL_ADD, ep, &(struct epoll_event){EPOLLIN, {.u64 = 99}}));
	int kept = -1;
	if (more) {
		add(gone, EPOLLIN, 5);
		kept = CHECK(dup(gone)); // the file stays, its number goes
		close(gone);
		add(CHECK(dup2(p[1], gone)), EPOLLOUT, 6); // and is used again
	}
	CHECK(write(one, &(uint64_t){1}, 8));
	ready("one-shot", ep); // used up
	CHECK(write(et[1], "x", 1));
	ready("edge", ep); // seen
	do {
		obs("flags %o fd %d", fcntl(ep, F_GETFL), fcntl(ep, F_GETFD));
		char path[64], line[256];
		snprintf(path, sizeof path, "/proc/self/fdinfo/%d", ep);
		FILE *f = fopen(path, "re");
		MUST(f);
		while (fgets(line, sizeof line, f)) {
			int tfd;
			unsigned ev;
			unsigned long long data;
			if (sscanf(line, "tfd: %d events: %x data: %llx", &tfd, &ev, &data) == 3)
				obs("member %d events %x data %llx", tfd, ev & ~(EPOLLERR | EPOLLHUP), data); // every member has these two
		}
		fclose(f);
		ready("outer", outer);
		CHECK(write(p[1], "y", 1));
		struct epoll_event e[16];
		int n = CHECK(epoll_wait(ep, e, 16, 0)), seen = 0;
		for (int i = 0; i < n; i++)
			seen |= e[i].data.u64 == 0x1122334455667788;
		obs("pipe ready %d", seen);
		char c;
		CHECK(read(p[0], &c, 1));
		// What is edge-triggered may be told again once after a restore, not lost.
		CHECK(write(et[1], "z", 1));
		n = CHECK(epoll_wait(ep, e, 16, 0)), seen = 0;
		for (int i = 0; i < n; i++)
			seen |= e[i].data.u64 == 2;
		obs("edge told %d", seen);
	} while (savepoint());
	CHECK(epoll_ctl(ep, EPOLL_CTL_MOD, one, &(struct epoll_event){EPOLLIN, {.u64 = 33}}));
	if (more)
		CHECK(write(kept, &(uint64_t){1}, 8));
	ready("end", ep);
	savepoint();
	return 0;
}
