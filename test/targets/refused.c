// States that can't be saved: one of them, by name. What a dump did must not be
// seen: each is looked at again afterwards where that can tell.
#include "ctl.h"
#include <arpa/inet.h>
#include <linux/aio_abi.h>
#include <linux/audit.h>
#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/io_uring.h>
#include <linux/keyctl.h>
#include <linux/perf_event.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <semaphore.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/fanotify.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mount.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/xattr.h>

static int fd, id = -1;
static volatile int stop;

static int wait_for_end(void *arg) {
	(void)arg;
	while (!stop)
		usleep(1000);
	return 0;
}

static void vm_child(void) {
	static char stack[16384];
	CHECK(clone(wait_for_end, stack + sizeof stack, CLONE_VM | SIGCHLD, NULL));
}

static void listener(void) {
	struct sock_filter code[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_kexec_load, 0, 1),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
	struct sock_fprog prog = {4, code};
	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &prog));
}

static void undo(void) {
	id = CHECK(semget(IPC_PRIVATE, 1, IPC_CREAT | 0600));
	CHECK(semop(id, &(struct sembuf){0, 1, SEM_UNDO}, 1));
}
// two_children waits until there are.
static void two_children(void) {
	int n = 0;
	while (n < 2) {
		char path[64], text[64] = "";
		snprintf(path, sizeof path, "/proc/self/task/%d/children", getpid());
		int f = CHECK(open(path, O_RDONLY));
		CHECK(read(f, text, sizeof text - 1));
		close(f);
		n = 0;
		for (char *c = text; *c; c++)
			n += *c == ' ';
	}
}
static void *go_on(void *arg) {
	char path[64], text[64];
	do { // until the first thread has ended
		snprintf(path, sizeof path, "/proc/%d/task/%d/stat", getpid(), getpid());
		int f = CHECK(open(path, O_RDONLY));
		text[CHECK(read(f, text, sizeof text - 1))] = 0;
		close(f);
	} while (!strstr(text, ") Z"));
	while (savepoint())
		;
	_exit(0);
	return arg;
}
static void death_signal(void) {
	pthread_t t;
	int made[2];
	char b;
	CHECK(pipe(made));
	if (CHECK(fork()) == 0) { // its parent is the first thread until that ends
		signal(SIGUSR1, SIG_IGN);
		prctl(PR_SET_PDEATHSIG, SIGUSR1);
		CHECK(write(made[1], "x", 1));
		for (int parent = getppid(); getppid() == parent;)
			usleep(1000);
		_exit(0);
	}
	CHECK(read(made[0], &b, 1));
	OK(pthread_create(&t, NULL, go_on, NULL));
	syscall(SYS_exit, 0);
}
static void timer_thread(void) {
	// An ended thread can't be named: it ends behind the timer's making.
	pthread_t t;
	OK(pthread_create(&t, NULL, (void *(*)(void *))(void *)pause, NULL));
	char path[64];
	int tid = 0;
	while (!tid) {
		DIR *d = CHECK(opendir("/proc/self/task"));
		for (struct dirent *e; (e = readdir(d));)
			if (*e->d_name != '.' && atoi(e->d_name) != getpid())
				tid = atoi(e->d_name);
		closedir(d);
	}
	struct sigevent ev = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGRTMIN};
	ev._sigev_un._tid = tid;
	timer_t timer;
	CHECK(timer_create(CLOCK_MONOTONIC, &ev, &timer));
	OK(pthread_cancel(t));
	OK(pthread_join(t, NULL));
	snprintf(path, sizeof path, "/proc/self/task/%d", tid);
	while (!access(path, F_OK))
		;
}
static void ldt(void) {
	uint32_t desc[4] = {0, 0, 0xfffff, 0x71}; // a 32-bit data segment
	CHECK(syscall(SYS_modify_ldt, 1, desc, sizeof desc));
}
static void signals(void) {
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGURG), sigaddset(&set, SIGWINCH), sigaddset(&set, SIGCHLD);
	CHECK(sigprocmask(SIG_BLOCK, &set, NULL));
	raise(SIGURG), raise(SIGWINCH), raise(SIGCHLD);
}
static void session(void) {
	// A sibling is in a session that only it has been in, its child in the one before; and shares descriptors.
	if (CHECK(syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0)) == 0) {
		if (CHECK(fork()) == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			wait_for_end(NULL);
		}
		CHECK(setsid());
		CHECK(syscall(SYS_clone, CLONE_PARENT | CLONE_FILES | SIGCHLD, 0, 0, 0, 0));
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		wait_for_end(NULL);
	}
	two_children();
}
static void net(void) { CHECK(unshare(CLONE_NEWNET)); }
static void ipc(void) { CHECK(unshare(CLONE_NEWIPC)); }
static void uts(void) { CHECK(unshare(CLONE_NEWUTS)); }
static void cgroup(void) { CHECK(unshare(CLONE_NEWCGROUP)); }
static void mnt(void) { CHECK(unshare(CLONE_NEWNS)); }
static void pid(void) { CHECK(unshare(CLONE_NEWPID)); }
static void tty_discipline(void) {
	int m = CHECK(posix_openpt(O_RDWR | O_NOCTTY));
	CHECK(grantpt(m)), CHECK(unlockpt(m));
	CHECK(ioctl(CHECK(open(ptsname(m), O_RDWR | O_NOCTTY)), TIOCSETD, &(int){27 /* N_NULL */}));
}
static void tty_control(void) {
	int m = CHECK(posix_openpt(O_RDWR | O_NOCTTY)), p[2];
	CHECK(pipe(p));
	if (!CHECK(fork())) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		CHECK(setsid()), CHECK(ioctl(m, TIOCSCTTY, 0)), CHECK(write(p[1], "", 1));
		wait_for_end(NULL);
	}
	CHECK(read(p[0], &(char){0}, 1));
}
static void tty_echo(void) {
	int m = CHECK(posix_openpt(O_RDWR | O_NOCTTY));
	CHECK(write(m, "typed", 5));
	CHECK(read(m, &(char){0}, 1)); // its echo is there
}

static void tty_typed(void) {
	int m = CHECK(posix_openpt(O_RDWR | O_NOCTTY));
	CHECK(write(m, "typed\n", 6));
	for (char b[16], n = 0; n < 7;) // its echo, with a carriage return
		n += CHECK(read(m, b, sizeof b));
}

// mount_detached has a file of a mount that nobody has attached yet, mount_clone the handle of such
// a one, whose root is another one's, too.
static void mount_detached(void) {
	int fs = CHECK(syscall(SYS_fsopen, "tmpfs", 0));
	CHECK(syscall(SYS_fsconfig, fs, 6 /* FSCONFIG_CMD_CREATE */, NULL, NULL, 0));
	int at = CHECK(syscall(SYS_fsmount, fs, 0, 0));
	close(fs);
	fd = CHECK(openat(at, "file", O_RDWR | O_CREAT, 0600));
	close(at);
}
static void mount_clone(void) { CHECK(syscall(SYS_open_tree, AT_FDCWD, "/", 1 /* OPEN_TREE_CLONE */)); }

// mount_directory has a directory of such a mount, and mount_changed is in another root besides.
static void mount_directory(void) {
	int m = CHECK(syscall(SYS_open_tree, AT_FDCWD, "/", 1 /* OPEN_TREE_CLONE */));
	CHECK(openat(m, ".", O_RDONLY | O_DIRECTORY)), close(m);
}
static void mount_changed(void) {
	mount_clone();
	CHECK(mkdir("root", 0700)), CHECK(chroot("root"));
}

// mount_file has a file that is on a mount which only another namespace has.
static void mount_file(void) {
	char path[400];
	int there[2], status;
	CHECK(pipe(there)), CHECK(mkdir("m", 0700));
	pid_t child = CHECK(fork());
	if (!child) {
		CHECK(unshare(CLONE_NEWNS)), CHECK(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
		CHECK(mount("none", "m", "tmpfs", 0, NULL)), CHECK(creat("m/file", 0600)), CHECK(write(there[1], "", 1));
		pause();
	}
	CHECK(read(there[0], path, 1)), close(there[0]), close(there[1]);
	snprintf(path, sizeof path, "/proc/%d/cwd/m/file", child);
	fd = open(path, O_RDWR);
	CHECK(kill(child, SIGKILL)), CHECK(waitpid(child, &status, 0)), CHECK(fd);
}
static void files(void) {
	if (CHECK(fork()) == 0) { // its sibling shares with who is not its parent
		CHECK(syscall(SYS_clone, CLONE_PARENT | CLONE_FILES | SIGCHLD, 0, 0, 0, 0));
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		wait_for_end(NULL);
	}
	two_children();
}

static void restricted(void) {
	uint64_t handled = 1 << 11; // LANDLOCK_ACCESS_FS_MAKE_BLOCK
	int n = syscall(444, &handled, sizeof handled, 0); // landlock_create_ruleset
	CHECK(n);
	CHECK(syscall(446, n, 0)); // landlock_restrict_self
	CHECK(close(n));
}

static void landlock(void) {
	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	restricted();
}

static volatile int alone;

static void *in_sandbox(void *arg) {
	if (arg)
		landlock();
	else
		restricted();
	alone = 1;
	for (;;)
		pause();
	return arg;
}

static void sandboxed_thread(void *privileges) {
	pthread_t t;
	if (pthread_create(&t, NULL, in_sandbox, privileges))
		abort();
	while (!alone)
		usleep(1000);
}
static void landlock_thread(void) { sandboxed_thread(""); }
static void restricted_thread(void) { sandboxed_thread(NULL); }

// aio leaves a request under way: a poll of a pipe that nothing comes through.
static void aio(void) {
	static int ends[2];
	aio_context_t ctx = 0;
	CHECK(pipe(ends));
	struct iocb cb = {.aio_lio_opcode = IOCB_CMD_POLL, .aio_fildes = ends[0], .aio_buf = POLLIN}, *p = &cb;
	CHECK(syscall(SYS_io_setup, 4, &ctx));
	CHECK(syscall(SYS_io_submit, ctx, 1, &p));
}
static void aio_fork(void) {
	aio_context_t ctx = 0;
	CHECK(syscall(SYS_io_setup, 4, &ctx));
	if (!CHECK(fork())) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		wait_for_end(NULL);
	}
}
static void keys(void) {
	CHECK(syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL));
	CHECK(syscall(SYS_add_key, "logon", "glis:name", "secret", 6, KEY_SPEC_SESSION_KEYRING)); // nobody can read it
}
static void keys_revoked(void) {
	CHECK(syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL));
	CHECK(syscall(SYS_keyctl, KEYCTL_REVOKE, KEY_SPEC_SESSION_KEYRING));
}
static void thread_keys(void) { CHECK(syscall(SYS_add_key, "user", "name", "secret", 6, KEY_SPEC_THREAD_KEYRING)); }
static volatile int joined;
static void *join_ring(void *arg) {
	CHECK(syscall(SYS_add_key, "user", "name", "secret", 6, KEY_SPEC_THREAD_KEYRING));
	joined = 1;
	wait_for_end(arg);
	return NULL;
}
static void thread_ring(void) {
	pthread_t t;
	OK(pthread_create(&t, NULL, join_ring, NULL));
	while (!joined)
		usleep(1000);
}
static void ports(void) {
#ifdef SYS_ioperm
	CHECK(syscall(SYS_ioperm, 0x80, 1, 1));
#endif
}
static void all_ports(void) {
#ifdef SYS_iopl
	CHECK(syscall(SYS_iopl, 3));
#endif
}
static void key(void) {
	char *p = CHECK(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	int k = syscall(SYS_pkey_alloc, 0, 0);
	if (k < 0 && (errno == ENOSPC || errno == EINVAL))
		die("skip: the CPU has no protection keys");
	CHECK(syscall(SYS_pkey_mprotect, p, 4096, PROT_READ, k));
}
static void shm_part(void) {
	id = CHECK(shmget(IPC_PRIVATE, 3 * 4096, IPC_CREAT | 0600));
	char *p = CHECK(shmat(id, NULL, 0));
	CHECK(munmap(p + 4096, 4096));
}
// The kernel's code (vdso) away from its data.
static void vdso_moved(void) {
	unsigned long start = 0, end = 0;
	char line[512];
	FILE *f = fopen("/proc/self/maps", "re");
	MUST(f);
	while (fgets(line, sizeof line, f))
		if (strstr(line, "[vdso]"))
			MUST(sscanf(line, "%lx-%lx", &start, &end) == 2);
	fclose(f);
	MUST(end > start);
	void *to = mmap(NULL, end - start, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	MUST(to != MAP_FAILED);
	MUST(mremap((void *)start, end - start, end - start, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
}

static void userfault_memory(void) {
	fd = CHECK(syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY));
	struct uffdio_api api = {.api = UFFD_API};
	CHECK(ioctl(fd, UFFDIO_API, &api));
	char *p = CHECK(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	struct uffdio_register reg = {.range = {(uintptr_t)p, 4096}, .mode = UFFDIO_REGISTER_MODE_MISSING};
	CHECK(ioctl(fd, UFFDIO_REGISTER, &reg));
}
static void userfault_file(void) { fd = CHECK(syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY)); }
static void ring(void) {
	uint32_t params[30] = {0};
	fd = CHECK(syscall(SYS_io_uring_setup, 4, params));
}

// ring_worker has a worker of io_uring wait in a read that nobody writes for.
static int ring_pipe[2];
static struct io_uring_cqe *ring_answer;
static void ring_worker(void) {
	struct io_uring_params p = {0};
	fd = CHECK(syscall(SYS_io_uring_setup, 1, &p));
	char *sq = CHECK(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, IORING_OFF_SQ_RING)), *cq = CHECK(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, IORING_OFF_CQ_RING));
	struct io_uring_sqe *e = CHECK(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, IORING_OFF_SQES));
	static char into;
	CHECK(pipe(ring_pipe));
	*e = (struct io_uring_sqe){.opcode = IORING_OP_READ, .flags = IOSQE_ASYNC, .fd = ring_pipe[0], .addr = (uintptr_t)&into, .len = 1};
	ring_answer = (void *)(cq + p.cq_off.cqes), ring_answer->res = 77;
	((unsigned *)(sq + p.sq_off.array))[0] = 0;
	__atomic_store_n((unsigned *)(sq + p.sq_off.tail), 1, __ATOMIC_RELEASE);
	MUST(CHECK(syscall(SYS_io_uring_enter, fd, 1, 0, 0, NULL, 0)) == 1);
	for (int threads = 0; threads < 2;) {
		DIR *d = opendir("/proc/self/task");
		for (threads = -2; readdir(d); threads++)
			;
		closedir(d);
	}
	ctl_asleep();
}

// ring_end sees to it that the read was not ended by anything else.
static void ring_end(void) {
	MUST(ring_answer->res == 77);
	CHECK(write(ring_pipe[1], "x", 1));
	CHECK(syscall(SYS_io_uring_enter, fd, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0));
	MUST(ring_answer->res == 1);
}

static void file_of(size_t size) {
	fd = CHECK(open("file", O_RDWR | O_CREAT | O_EXCL, 0600));
	char *b = calloc(1, size);
	memset(b, 7, size);
	MUST(CHECK(write(fd, b, size)) == (ssize_t)size);
	free(b);
}
static void ghost_large(void) { file_of(2 << 20), CHECK(unlink("file")); }
static void ghost_append(void) {
	int fd = CHECK(open(".", O_TMPFILE | O_RDWR, 0600)), flags;
	CHECK(ioctl(fd, FS_IOC_GETFLAGS, &flags));
	flags |= FS_APPEND_FL;
	CHECK(ioctl(fd, FS_IOC_SETFLAGS, &flags));
}
static void memfd_flags(void) {
	int fd = CHECK(memfd_create("flags", 0));
	CHECK(ioctl(fd, FS_IOC_SETFLAGS, &(int){FS_NODUMP_FL}));
}
static void ghost_xattr(void) { file_of(1), CHECK(fsetxattr(fd, "user.glis", "x", 1, 0)), CHECK(unlink("file")); }
static void linked(void) { file_of(1), CHECK(link("file", "other")), CHECK(unlink("file")); }
static void lock(void) { file_of(1), CHECK(flock(fd, LOCK_EX)); }
static void pidfd(void) { fd = CHECK(syscall(SYS_pidfd_open, getppid(), 0)); }
static void watch_events(void) {
	fd = CHECK(inotify_init1(IN_NONBLOCK));
	CHECK(inotify_add_watch(fd, ".", IN_CREATE));
	close(CHECK(open("new", O_CREAT | O_WRONLY, 0600)));
}
static void watch_gone(void) {
	fd = CHECK(inotify_init1(IN_NONBLOCK));
	file_of(1);
	char *m = CHECK(mmap(NULL, 1, PROT_READ, MAP_SHARED, fd, 0)); // all that is left of it
	MUST(m);
	close(fd);
	fd = CHECK(inotify_init1(IN_NONBLOCK));
	CHECK(inotify_add_watch(fd, "file", IN_MODIFY));
	CHECK(unlink("file"));
}
static void watch_decides(void) { fd = CHECK(fanotify_init(FAN_CLASS_CONTENT | FAN_NONBLOCK, O_RDONLY)), CHECK(fanotify_mark(fd, FAN_MARK_ADD, FAN_OPEN_PERM, AT_FDCWD, ".")); }
static void fast_timer(void) {
	fd = CHECK(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK));
	CHECK(timerfd_settime(fd, 0, &(struct itimerspec){{0, 1}, {0, 1}}, NULL));
}
static void hung_up(void) {
	int m = CHECK(posix_openpt(O_RDWR | O_NOCTTY));
	CHECK(unlockpt(m));
	fd = CHECK(open(ptsname(m), O_RDWR | O_NOCTTY));
	int pid = CHECK(fork());
	if (!pid) {
		signal(SIGHUP, SIG_IGN);
		CHECK(setsid()), CHECK(ioctl(fd, TIOCSCTTY, 1)), CHECK(vhangup());
		_exit(0);
	}
	CHECK(waitpid(pid, NULL, 0));
}
static void ns_file(void) {
	int own = CHECK(open("/proc/self/ns/uts", O_RDONLY));
	CHECK(unshare(CLONE_NEWUTS));
	fd = CHECK(open("/proc/self/ns/uts", O_RDONLY));
	CHECK(setns(own, 0));
	close(own);
}
static char queue_name[64];
static void queue_unlink(void) { CHECK(mq_unlink(queue_name)); }
static mqd_t queue(void) {
	snprintf(queue_name, sizeof queue_name, "/glis-refused-%d", getpid());
	struct mq_attr small = {.mq_maxmsg = 1, .mq_msgsize = 1}; // it counts against RLIMIT_MSGQUEUE of all that the user runs
	return CHECK(mq_open(queue_name, O_RDWR | O_CREAT | O_EXCL, 0600, &small));
}
static void queue_gone(void) { queue(), queue_unlink(); }
static void queue_elsewhere(void) {
	int own = CHECK(open("/proc/self/ns/ipc", O_RDONLY));
	CHECK(unshare(CLONE_NEWIPC));
	queue();
	CHECK(setns(own, 0));
	close(own);
	close(queue()); // one that has its name
	atexit(queue_unlink);
}
static void queue_notifies(void) {
	CHECK(mq_notify(queue(), &(struct sigevent){.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1}));
	atexit(queue_unlink);
}
static void perf(void) {
	struct perf_event_attr a = {.type = PERF_TYPE_SOFTWARE, .size = sizeof a, .config = PERF_COUNT_SW_PAGE_FAULTS};
	fd = CHECK(syscall(SYS_perf_event_open, &a, 0, -1, -1, 0));
}
static void device(void) { fd = CHECK(open("/dev/fuse", O_RDWR)); }
static void exit_signal(void) {
	if (CHECK(syscall(SYS_clone, SIGUSR2, 0, 0, 0, 0)) == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		wait_for_end(NULL);
	}
	signal(SIGUSR2, SIG_IGN);
}
static pthread_barrier_t gone;
static void *leaves(void *arg) {
	CHECK(unshare(CLONE_FS));
	CHECK(chdir("/"));
	pthread_barrier_wait(&gone);
	wait_for_end(NULL);
	return arg;
}
static void thread_directory(void) {
	pthread_t th;
	OK(pthread_barrier_init(&gone, NULL, 2));
	OK(pthread_create(&th, NULL, leaves, NULL));
	pthread_barrier_wait(&gone);
}
static char selector; // 0: calls are made
static void dispatch(void) { CHECK(prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, 0L, 0L, &selector)); }
static void notify(void) { // by a process that nobody dumps
	pid_t self = getpid();
	CHECK(mkdir("seen", 0755));
	fd = CHECK(open("seen", O_RDONLY | O_DIRECTORY));
	CHECK(fcntl(fd, F_SETOWN, self));
	signal(SIGIO, SIG_IGN);
	pid_t kid = CHECK(fork());
	if (kid == 0) {
		if (CHECK(fork()))
			_exit(0);
		CHECK(fcntl(fd, F_NOTIFY, DN_CREATE | DN_MULTISHOT));
		close(CHECK(creat("asked", 0600)));
		while (kill(self, 0) == 0)
			usleep(1000);
		_exit(0);
	}
	reap(kid);
	while (access("asked", F_OK))
		usleep(1000);
}
static void owner(void) {
	fd = CHECK(open("fifo", O_RDWR | O_CREAT, 0600));
	CHECK(fcntl(fd, F_SETOWN, getppid()));
}
static void epoll_closed(void) {
	int p[2], e = CHECK(epoll_create1(0));
	CHECK(pipe(p));
	CHECK(epoll_ctl(e, EPOLL_CTL_ADD, p[0], &(struct epoll_event){EPOLLIN, {.fd = 1}}));
	int s[2];
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	char control[CMSG_SPACE(sizeof(int))] = {0}, c = 0;
	struct iovec v = {&c, 1};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);
	h->cmsg_level = SOL_SOCKET, h->cmsg_type = SCM_RIGHTS, h->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(h), &p[0], sizeof(int));
	CHECK(sendmsg(s[0], &m, 0));
	close(p[0]);
}

static void secret(void) {
	fd = CHECK(syscall(SYS_memfd_secret, 0));
	CHECK(ftruncate(fd, 4096));
}
static void secret_memory(void) {
	secret();
	char *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	MUST(p != MAP_FAILED);
	*p = 1;
	close(fd);
}
static void long_path(void) {
	char name[201] = {[0 ... 199] = 'n'};
	int at = CHECK(open(".", O_PATH | O_DIRECTORY));
	for (int i = 0; i < 24; i++) {
		CHECK(mkdirat(at, name, 0755));
		int next = CHECK(openat(at, name, O_PATH | O_DIRECTORY));
		close(at);
		at = next;
	}
	fd = at;
}
static int brief(const char *what, int flags, int reap) {
	char path[64];
	int to[2];
	CHECK(pipe(to));
	int pid = CHECK(fork());
	if (!pid) {
		char c;
		close(to[1]);
		_exit(read(to[0], &c, 1));
	}
	snprintf(path, sizeof path, "/proc/%d/%s", pid, what);
	fd = CHECK(open(path, flags));
	close(to[0]), close(to[1]);
	siginfo_t end;
	CHECK(waitid(P_PID, pid, &end, WEXITED | (reap ? 0 : WNOWAIT)));
	return fd;
}
static void zombie_memory(void) { brief("mem", O_RDONLY, 0); }
static void ended_descriptors(void) { brief("fd", O_RDONLY | O_DIRECTORY, 1); }
static void descriptor_link(void) { fd = CHECK(open("/proc/self/fd/0", O_PATH | O_NOFOLLOW)); }
static void *open_info(void *unused) { return fd = CHECK(open("/proc/thread-self/fdinfo/0", O_RDONLY)), pause(), unused; }
static void descriptor_info(void) {
	pthread_t t;
	fd = -1;
	OK(pthread_create(&t, NULL, open_info, NULL));
	while (*(volatile int *)&fd < 0)
		usleep(1000);
}

static struct sockaddr_in here = {.sin_family = AF_INET};
static sem_t leased;
static void *lease(void *unused) {
	// struct in6_flowlabel_req of linux/in6.h: for ::1, IPV6_FL_S_PROCESS, IPV6_FL_F_CREATE
	unsigned char r[32] = {[15] = 1, [21] = 2, [22] = 1};
	CHECK(setsockopt(fd, IPPROTO_IPV6, 32 /* IPV6_FLOWLABEL_MGR */, r, sizeof r));
	OK(sem_post(&leased));
	return pause(), unused;
}
static void flow_label(void) {
	pthread_t t;
	fd = CHECK(socket(AF_INET6, SOCK_DGRAM, 0));
	OK(pthread_create(&t, NULL, lease, NULL));
	OK(sem_wait(&leased));
}
static void sockmap(void) {
	union bpf_attr m = {.map_type = BPF_MAP_TYPE_SOCKMAP, .key_size = 4, .value_size = 4, .max_entries = 1};
	int map = CHECK(syscall(SYS_bpf, BPF_MAP_CREATE, &m, sizeof m));
	struct bpf_insn code[] = {
		{BPF_LD | BPF_DW | BPF_IMM, BPF_REG_1, BPF_PSEUDO_MAP_FD, 0, map}, {0, 0, 0, 0, 0},
		{BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, 99}, {BPF_JMP | BPF_EXIT, 0, 0, 0, 0}};
	union bpf_attr a = {.prog_type = BPF_PROG_TYPE_SOCKET_FILTER, .insn_cnt = 4};
	a.insns = (uintptr_t)code, a.license = (uintptr_t) "GPL";
	int program = CHECK(syscall(SYS_bpf, BPF_PROG_LOAD, &a, sizeof a));
	fd = CHECK(socket(AF_INET, SOCK_DGRAM, 0));
	CHECK(setsockopt(fd, SOL_SOCKET, SO_ATTACH_BPF, &program, sizeof program));
	close(program), close(map);
}
static void established(void) {
	here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	int l = CHECK(socket(AF_INET, SOCK_STREAM, 0));
	CHECK(bind(l, (void *)&here, sizeof here));
	CHECK(listen(l, 1));
	socklen_t n = sizeof here;
	CHECK(getsockname(l, (void *)&here, &n));
	fd = CHECK(socket(AF_INET, SOCK_STREAM, 0));
	CHECK(connect(fd, (void *)&here, sizeof here));
	CHECK(accept(l, NULL, NULL));
}
static void saved_syn(void) {
	int on = 1;
	here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	int l = CHECK(socket(AF_INET, SOCK_STREAM, 0));
	CHECK(setsockopt(l, IPPROTO_TCP, TCP_SAVE_SYN, &on, sizeof on));
	CHECK(bind(l, (void *)&here, sizeof here));
	CHECK(listen(l, 1));
	socklen_t n = sizeof here;
	CHECK(getsockname(l, (void *)&here, &n));
	fd = CHECK(socket(AF_INET, SOCK_STREAM, 0));
	CHECK(connect(fd, (void *)&here, sizeof here));
	CHECK(accept(l, NULL, NULL));
}
static struct {
	const char *name;
	void (*make)(void);
} all[] = {
    {"vm", vm_child}, {"listener", listener}, {"undo", undo}, {"deathsignal", death_signal}, {"timerthread", timer_thread}, {"ldt", ldt}, {"signals", signals}, {"session", session}, {"ports", ports}, {"allports", all_ports}, {"keys", keys}, {"keysrevoked", keys_revoked}, {"threadkeys", thread_keys}, {"threadring", thread_ring}, {"landlock", landlock}, {"landlockadmin", restricted}, {"landlockadminthread", restricted_thread}, {"landlockthread", landlock_thread}, {"aio", aio}, {"aiofork", aio_fork}, {"key", key}, {"fasttimer", fast_timer},
    {"hungup", hung_up}, {"net", net}, {"ipc", ipc}, {"uts", uts}, {"cgroup", cgroup},
    {"mnt", mnt}, {"ttydiscipline", tty_discipline}, {"ttycontrol", tty_control}, {"ttyecho", tty_echo}, {"ttytyped", tty_typed}, {"mountfile", mount_file}, {"mountdetached", mount_detached}, {"mountclone", mount_clone}, {"mountdirectory", mount_directory}, {"mountchanged", mount_changed}, {"pid", pid}, {"files", files}, {"shmpart", shm_part}, {"uffdmemory", userfault_memory}, {"vdsomoved", vdso_moved}, {"uffd", userfault_file},
    {"iouring", ring}, {"iouringworker", ring_worker}, {"ghostlarge", ghost_large}, {"ghostxattr", ghost_xattr}, {"ghostappend", ghost_append}, {"memfdflags", memfd_flags}, {"linked", linked},
    {"lock", lock}, {"pidfd", pidfd}, {"watchevents", watch_events}, {"watchgone", watch_gone}, {"watchdecides", watch_decides},
    {"nsfile", ns_file}, {"queuegone", queue_gone}, {"queueelsewhere", queue_elsewhere}, {"queuenotifies", queue_notifies}, {"perf", perf}, {"device", device}, {"exitsignal", exit_signal}, {"threaddirectory", thread_directory}, {"dispatch", dispatch}, {"notify", notify}, {"owner", owner}, {"epollclosed", epoll_closed},
    {"flowlabel", flow_label}, {"sockmap", sockmap}, {"established", established}, {"savedsyn", saved_syn},
    {"secret", secret}, {"secretmemory", secret_memory}, {"longpath", long_path}, {"zombiememory", zombie_memory}, {"endeddescriptors", ended_descriptors}, {"descriptorlink", descriptor_link}, {"descriptorinfo", descriptor_info},
   
};

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	int made = 0;
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		if (!strcmp(all[i].name, argv[1]))
			all[i].make(), made++;
	MUST(made == 1);
	while (savepoint())
		;
	stop = 1;
	if (ring_answer)
		ring_end();
	if (id >= 0)
		CHECK(!strcmp(argv[1], "undo") ? semctl(id, 0, IPC_RMID) : shmctl(id, IPC_RMID, NULL));
	return 0;
}
