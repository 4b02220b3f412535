// Directories by whose descriptors processes ask for signals of what changes in them
// (F_NOTIFY): once, and each time; by duplicates, and by one open file that two have.
#include "ctl.h"
#include <sched.h>
#include <sys/inotify.h>

static sigset_t mine;

static int ask(int fd, int n, unsigned what) {
	CHECK(fcntl(fd, F_SETSIG, SIGRTMIN + n));
	return CHECK(fcntl(fd, F_NOTIFY, what)), fd;
}

static int dir(const char *name) { return CHECK(open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC)); }

// heard notes the signals that wait, in order of their numbers.
static void heard(const char *when) {
	siginfo_t si;
	while (sigtimedwait(&mine, &si, &(struct timespec){0}) > 0)
		obs("%s: signal %d, descriptor %d, band %#lx", when, si.si_signo - SIGRTMIN, si.si_fd, si.si_band);
	obs("%s", when);
}

__attribute__((noreturn)) static void child(int both) {
	ctl_child("child");
	both = CHECK(fcntl(both, F_DUPFD, 50));
	ask(both, 3, DN_ATTRIB | DN_MULTISHOT);
	while (savepoint()) {}
	for (;;)
		pause(); // what it asks for ends with it
}

static int shares(void *both) {
	ctl_child("twin");
	CHECK(fcntl((int)(intptr_t)both, F_NOTIFY, DN_CREATE | DN_MULTISHOT));
	while (savepoint()) {}
	for (;;)
		pause(); // its descriptors are the parent's
}

int main(int argc, char **argv) {
	static char stack[65536];
	ctl_init(argc, argv);
	sigemptyset(&mine);
	for (int n = 0; n < 8; n++)
		sigaddset(&mine, SIGRTMIN + n);
	CHECK(sigprocmask(SIG_BLOCK, &mine, NULL));
	CHECK(mkdir("seen", 0755));
	CHECK(mkdir("other", 0755));
	close(CHECK(creat("seen/there", 0600)));
	int once = dir("seen");
	ask(dir("seen"), 1, DN_MULTISHOT | DN_ACCESS | DN_MODIFY | DN_CREATE | DN_DELETE | DN_RENAME | DN_ATTRIB);
	ask(CHECK(dup2(dir("seen"), 40)), 2, DN_MULTISHOT | DN_RENAME);
	int both = ask(dir("seen"), 3, DN_MULTISHOT | DN_CREATE);
	ask(dir("other"), 4, DN_MULTISHOT | DN_DELETE);
	CHECK(inotify_add_watch(CHECK(inotify_init1(IN_NONBLOCK)), "other", IN_ATTRIB)); // others' marks of it
	int table = ask(dir("seen"), 5, DN_MULTISHOT | DN_MODIFY);
	pid_t kid = CHECK(fork());
	if (kid == 0)
		child(both);
	ctl_party("child");
	pid_t twin = CHECK(clone(shares, stack + sizeof stack, CLONE_FILES | SIGCHLD, (void *)(intptr_t)table));
	ctl_party("twin");
	ctl_await("at", "child");
	ctl_await("at", "twin");
	for (int going = 1; going;) {
		close(CHECK(creat("seen/new", 0600)));
		heard("new");
		CHECK(chmod("seen/new", 0640));
		heard("mode");
		CHECK(rename("seen/new", "seen/again"));
		heard("name");
		CHECK(rename("seen/again", "other/here"));
		heard("gone");
		CHECK(unlink("other/here"));
		heard("deleted");
		int fd = CHECK(open("seen/there", O_RDWR));
		MUST(write(fd, "x", 1) == 1);
		close(fd);
		heard("written");
		ask(once, 0, DN_ACCESS);
		ask(once, 0, DN_CREATE); // both, whichever comes first
		going = savepoint();
		fd = CHECK(open("seen/there", O_RDONLY));
		char c;
		MUST(read(fd, &c, 1) == 1);
		heard("read");
		lseek(fd, 0, SEEK_SET);
		MUST(read(fd, &c, 1) == 1);
		close(fd);
		heard("read once more");
	}
	for (int i = 0; i < 2; i++) {
		CHECK(kill(i ? kid : twin, SIGKILL));
		CHECK(waitpid(i ? kid : twin, NULL, 0));
	}
	return 0;
}
