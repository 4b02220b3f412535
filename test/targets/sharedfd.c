// Descriptors shared by dup, by fork and by CLONE_FILES: one offset moves for
// all, two opens of one file stay two, and kcmp agrees.
#include "ctl.h"
#include <linux/kcmp.h>
#include <sched.h>

static int fd, dupped, other, tablefd;
static char stack[65536];
static pid_t kid, twin;

static void turn(const char *who, int n) { // everybody moves the shared offset once
	char name[300];
	snprintf(name, sizeof name, "%s/turn.%d.%s", ctl_dir, ctl_gen, who);
	CHECK(lseek(fd, n, SEEK_CUR));
	close(CHECK(creat(name, 0600)));
}

static void await_turn(const char *who) {
	char name[300];
	snprintf(name, sizeof name, "%s/turn.%d.%s", ctl_dir, ctl_gen, who);
	while (access(name, F_OK))
		nanosleep(&(struct timespec){0, 1000000}, NULL);
}

static int twin_main(void *arg) {
	// Same descriptor table as the parent, other memory.
	ctl_child("twin");
	do {
		await_turn("kid");
		turn("twin", 100);
		obs("twin sees %d", fcntl(tablefd, F_GETFD));
	} while (savepoint());
	for (;;)
		pause(); // root still looks at us
	return 0;
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	fd = CHECK(open("file", O_RDWR | O_CREAT, 0600));
	dupped = CHECK(dup(fd)), other = CHECK(open("file", O_RDWR));
	CHECK(fcntl(dupped, F_SETFD, FD_CLOEXEC));
	tablefd = CHECK(fcntl(other, F_DUPFD, 50));
	int private = CHECK(open("file", O_RDONLY));
	ctl_party("kid");
	if (!(kid = CHECK(fork()))) {
		ctl_child("kid");
		close(private);
		CHECK(dup2(fd, 123)); // the same description under another number
		do {
			turn("kid", 10);
			obs("number 123 at %ld", (long)(lseek(123, 0, SEEK_CUR) >= 10));
		} while (savepoint());
		for (;;)
			pause();
	}
	ctl_party("twin");
	twin = CHECK(clone(twin_main, stack + sizeof stack, CLONE_FILES | SIGCHLD, NULL));
	do {
		await_turn("twin");
		turn("root", 1);
		obs("fd %ld dup %ld other %ld", (long)lseek(fd, 0, SEEK_CUR), (long)lseek(dupped, 0, SEEK_CUR), (long)lseek(other, 0, SEEK_CUR));
		obs("cloexec %d %d", fcntl(fd, F_GETFD), fcntl(dupped, F_GETFD));
		ctl_await("at", "kid"), ctl_await("at", "twin");
		obs("kcmp dup %d other %d kid %d", (int)syscall(SYS_kcmp, getpid(), getpid(), KCMP_FILE, fd, dupped) != 0,
		    (int)syscall(SYS_kcmp, getpid(), getpid(), KCMP_FILE, fd, other) != 0,
		    (int)syscall(SYS_kcmp, getpid(), kid, KCMP_FILE, fd, 123) != 0);
		obs("tables twin %d kid %d", (int)syscall(SYS_kcmp, getpid(), twin, KCMP_FILES, 0, 0) != 0,
		    (int)syscall(SYS_kcmp, getpid(), kid, KCMP_FILES, 0, 0) != 0);
		if (ctl_gen == 1)
			CHECK(fcntl(tablefd, F_SETFD, FD_CLOEXEC)); // the twin will see it
	} while (savepoint());
	CHECK(kill(kid, SIGKILL)), CHECK(kill(twin, SIGKILL));
	CHECK(waitpid(kid, NULL, 0)), CHECK(waitpid(twin, NULL, 0));
	return 0;
}
