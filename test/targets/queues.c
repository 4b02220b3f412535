// POSIX message queues: what is in one, priorities, flags, a descriptor that a
// child shares, one opened by its file's path; and System V message queues and
// semaphores, which belong to nobody and are still there.
#include "ctl.h"
#include <mqueue.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>

static char name[64];
static mqd_t both, in, out;

// link_of tells what a descriptor is called, without what differs in each run.
static const char *link_of(int fd) {
	static char path[64], text[256];
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	text[CHECK(readlink(path, text, sizeof text - 1))] = 0;
	return strcmp(text, name) ? text : "the queue";
}

// look tells of a descriptor. How many messages there are only who takes them knows.
static void look(const char *who, mqd_t q, int mine) {
	struct mq_attr a;
	CHECK(mq_getattr(q, &a));
	if (!mine)
		a.mq_curmsgs = -1;
	obs("%s: flags %lx, %o, fd %d, %ld of %ld messages, %s", who, a.mq_flags, fcntl(q, F_GETFL), fcntl(q, F_GETFD), a.mq_curmsgs, a.mq_maxmsg, link_of(q));
}

struct msg { long type; char text[16]; };

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	snprintf(name, sizeof name, "/glis-queues-%d", getpid());
	struct mq_attr a = {.mq_maxmsg = 5, .mq_msgsize = 32};
	both = CHECK(mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0640, &a));
	in = CHECK(mq_open(name, O_RDONLY | O_NONBLOCK | O_CLOEXEC));
	out = CHECK(mq_open(name, O_WRONLY));
	CHECK(fcntl(out, F_SETFD, 0));
	CHECK(mq_send(out, "low", 4, 1)), CHECK(mq_send(out, "high", 5, 9)), CHECK(mq_send(out, "", 1, 0));
	int m = CHECK(msgget(IPC_PRIVATE, IPC_CREAT | 0600)), s = CHECK(semget(IPC_PRIVATE, 2, IPC_CREAT | 0600));
	CHECK(msgsnd(m, &(struct msg){7, "seven"}, 6, 0));
	CHECK(semctl(s, 1, SETVAL, 42));
	ctl_party("child");
	if (!CHECK(fork())) {
		ctl_child("child");
		do
			look("shared", both, 0);
		while (savepoint());
		_exit(0);
	}
	do {
		look("both", both, 1), look("in", in, 1), look("out", out, 1);
		char text[32];
		unsigned prio;
		long n = CHECK(mq_receive(in, text, sizeof text, &prio));
		obs("%ld bytes of priority %u: %s", n, prio, text);
		CHECK(mq_send(both, text, n, prio));
		struct msg got = {0};
		n = CHECK(msgrcv(m, &got, sizeof got.text, 0, IPC_NOWAIT));
		obs("type %ld, %ld bytes: %s; semaphore %d", got.type, n, got.text, CHECK(semctl(s, 1, GETVAL)));
		CHECK(msgsnd(m, &got, n, 0));
	} while (savepoint());
	CHECK(mq_unlink(name)), CHECK(msgctl(m, IPC_RMID, NULL)), CHECK(semctl(s, 0, IPC_RMID));
	int st;
	CHECK(wait(&st));
	MUST(st == 0);
	return 0;
}
