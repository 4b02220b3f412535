// Rings of asynchronous I/O: an empty one, one that has gone round, one with
// events that nobody has taken, also across its end, and a thread that waits.
#include "ctl.h"
#include <linux/aio_abi.h>
#include <pthread.h>

struct ring {
	unsigned id, nr, head, tail, magic, compat, incompat, length;
	struct io_event events[];
};
enum { RINGS = 4 };
static aio_context_t ctx[RINGS], waiting;
static int null, file;
static volatile long woken;

static void submit(aio_context_t c, int fd, uint64_t data) {
	static char text[] = "text";
	struct iocb cb = {.aio_data = data, .aio_lio_opcode = IOCB_CMD_PWRITE, .aio_fildes = fd, .aio_buf = (uintptr_t)text, .aio_nbytes = 4, .aio_offset = 10};
	struct iocb *p = &cb;
	MUST(CHECK(syscall(SYS_io_submit, c, 1, &p)) == 1);
}

static uint64_t take(aio_context_t c) {
	struct io_event e;
	struct timespec none = {0, 0};
	return CHECK(syscall(SYS_io_getevents, c, 0, 1, &e, &none)) ? e.data + 1000 * e.res : 0;
}

static void *waiter(void *arg) {
	struct io_event e;
	(void)arg;
	while (syscall(SYS_io_getevents, waiting, 1, 1, &e, NULL) != 1)
		MUST(errno == EINTR);
	woken = e.data;
	return NULL;
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	null = CHECK(open("/dev/null", O_WRONLY));
	file = CHECK(open("aio.out", O_RDWR | O_CREAT | O_TRUNC, 0600));
	for (int i = 0; i < RINGS; i++)
		CHECK(syscall(SYS_io_setup, i == 1 ? 300 : 64, &ctx[i]));
	CHECK(syscall(SYS_io_setup, 1, &waiting));
	unsigned nr = ((struct ring *)ctx[1])->nr;
	for (unsigned i = 0; i < nr + 7; i++) {
		submit(ctx[1], null, i);
		take(ctx[1]);
	}
	for (int i = 0; i < 5; i++)
		submit(ctx[2], file, 100 + i);
	take(ctx[2]);
	nr = ((struct ring *)ctx[3])->nr;
	for (unsigned i = 0; i < nr + 3; i++) {
		if (i > 9)
			take(ctx[3]);
		submit(ctx[3], null, i);
	}
	pthread_t th;
	OK(pthread_create(&th, NULL, waiter, NULL));
	ctl_asleep();
	do
		for (int i = 0; i < RINGS; i++) {
			struct ring *r = (struct ring *)ctx[i];
			obs("=ring %d at %p of %u", i, r, r->nr);
			obs("%d stands at %u %u magic %#x", i, r->head, r->tail, r->magic);
			obs("%d gives %ld", i, (long)take(ctx[i]));
			submit(ctx[i], null, 500 + i);
		}
	while (savepoint());
	for (int i = 0; i < RINGS; i++)
		for (uint64_t data; (data = take(ctx[i]));)
			obs("%d has %ld", i, (long)data);
	submit(waiting, null, 77);
	OK(pthread_join(th, NULL));
	obs("woken %ld", woken);
	for (int i = 0; i < RINGS; i++)
		obs("destroyed %ld", syscall(SYS_io_destroy, ctx[i]));
	return 0;
}
