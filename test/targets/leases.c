// Leases that somebody waits for: of a reader, of a writer that may go on
// reading, of a writer; one is kept by a child only, one of them has told its
// owner by a signal that is blocked. One lease is that of a process that has ended.
#include "ctl.h"

static int told;
static void tell(int sig, siginfo_t *i, void *u) { (void)sig, (void)u, told += i->si_fd; }

// asked makes a lease that somebody wants to be given up.
static int asked(const char *name, int how, int lease, int by, int sig) {
	char path[400];
	snprintf(path, sizeof path, "%s/l.%s", ctl_dir, name);
	int fd = CHECK(open(path, how | O_CREAT, 0600));
	CHECK(fcntl(fd, F_SETLEASE, lease));
	CHECK(fcntl(fd, F_SETSIG, sig));
	if (open(path, by | O_NONBLOCK) >= 0 || errno != EWOULDBLOCK)
		die("%s: the lease is not in the way", name);
	return fd;
}

// look tells what the holder sees, and others, of whom one that wants to write
// would have a lease that may go on reading be given up, too.
static void look(const char *name, int fd, int by) {
	char path[400];
	snprintf(path, sizeof path, "%s/l.%s", ctl_dir, name);
	int other = open(path, by | O_NONBLOCK);
	obs("%s: another's open: %d", name, other < 0 ? errno : 0);
	if (other >= 0)
		close(other);
	obs("%s: lease %d, signal %d, owned %d", name, fcntl(fd, F_GETLEASE), fcntl(fd, F_GETSIG), fcntl(fd, F_GETOWN) == getpid() || fcntl(fd, F_GETOWN) == getppid());
}

// ownerless has a lease of who has ended: its signals go nowhere.
static int ownerless(void) {
	char path[400];
	snprintf(path, sizeof path, "%s/l.ownerless", ctl_dir);
	int fd = CHECK(open(path, O_RDWR | O_CREAT, 0600)), pid = CHECK(fork());
	if (!pid)
		_exit(fcntl(fd, F_SETLEASE, F_WRLCK) ? 1 : 0);
	reap(pid);
	return fd;
}

static void waiting(int sig) {
	sigset_t s;
	sigpending(&s);
	obs("told %d, signal %d waits: %d", told, sig, sigismember(&s, sig));
}

// mapped has leases on files that are mapped, which nobody else may have open for writing:
// a restore that opened them once more, to map them, could not take the leases again.
static void mapped(int fds[3], char *mem[3]) {
	static const char *names[] = {"shared", "private"};
	for (int i = 0; i < 2; i++) {
		char path[400];
		snprintf(path, sizeof path, "%s/l.%s", ctl_dir, names[i]);
		fds[i] = CHECK(open(path, O_RDWR | O_CREAT, 0600));
	}
	fds[2] = CHECK(memfd_create("leased", 0));
	for (int i = 0; i < 3; i++) {
		CHECK(write(fds[i], "data", 4));
		mem[i] = mmap(NULL, 4096, PROT_READ | PROT_WRITE, i == 1 ? MAP_PRIVATE : MAP_SHARED, fds[i], 0);
		if (mem[i] == MAP_FAILED)
			die("mmap: %s", strerror(errno));
		CHECK(fcntl(fds[i], F_SETLEASE, i == 2 ? F_RDLCK : F_WRLCK));
	}
}

static void lookMapped(int fds[3], char *mem[3]) {
	for (int i = 0; i < 3; i++) {
		char b[5] = "";
		mem[i][0]++;
		CHECK(pread(fds[i], b, 4, 0));
		obs("mapped %d: lease %d, memory %.4s, file %s", i, fcntl(fds[i], F_GETLEASE), mem[i], b);
	}
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	sigset_t blocked;
	int held = SIGRTMIN + 3;
	sigemptyset(&blocked), sigaddset(&blocked, held);
	CHECK(sigprocmask(SIG_BLOCK, &blocked, NULL));
	CHECK(sigaction(SIGIO, &(struct sigaction){.sa_sigaction = tell, .sa_flags = SA_SIGINFO}, NULL));
	int kept = asked("kept", O_RDWR, F_WRLCK, O_WRONLY, SIGIO);
	int pid = CHECK(fork());
	if (!pid) {
		ctl_child("child");
		do
			look("kept", kept, O_RDONLY);
		while (savepoint());
		_exit(0);
	}
	ctl_party("child");
	close(kept);
	int read = asked("read", O_RDONLY, F_RDLCK, O_WRONLY, SIGIO);
	int part = asked("part", O_RDONLY, F_WRLCK, O_RDONLY, SIGIO);
	int both = asked("both", O_RDWR, F_WRLCK, O_WRONLY, held);
	int fds[3], none = ownerless();
	char *mem[3];
	mapped(fds, mem);
	do {
		struct f_owner_ex o;
		CHECK(fcntl(none, F_GETOWN_EX, &o));
		obs("of who has ended: lease %d, owner %d of type %d", fcntl(none, F_GETLEASE), o.pid, o.type);
		lookMapped(fds, mem);
		look("read", read, O_WRONLY), look("part", part, O_RDONLY), look("both", both, O_WRONLY);
		waiting(held);
	} while (savepoint());
	CHECK(fcntl(read, F_SETLEASE, F_UNLCK)), CHECK(fcntl(part, F_SETLEASE, F_RDLCK)), CHECK(fcntl(both, F_SETLEASE, F_UNLCK));
	look("read", read, O_WRONLY), look("part", part, O_RDONLY), look("both", both, O_WRONLY);
	reap(pid);
	return 0;
}
