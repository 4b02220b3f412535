// Attributes of a task: umask, working directory, limits, scheduling, also with a
// deadline, nice, CPUs, I/O priority, timer slack, personality, login uid,
// registrations of membarrier(2) and out-of-memory score.
#include "ctl.h"
#include <sched.h>
#include <sys/personality.h>
#include <sys/resource.h>

static int more; // also what CRIU's images have no field for

static void file(const char *path) {
	char buf[64] = "";
	int fd = CHECK(open(path, O_RDONLY | O_CLOEXEC));
	CHECK(read(fd, buf, sizeof buf - 1));
	close(fd);
	obs("%s %s", path, strtok(buf, "\n"));
}

// The number of the group is another one in each restore.
static void autogroup(void) {
	char buf[64] = "";
	int fd = open("/proc/self/autogroup", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	CHECK(read(fd, buf, sizeof buf - 1));
	close(fd);
	char *nice = strstr(buf, "nice");
	obs("autogroup %s", nice ? strtok(nice, "\n") : "none");
}

// login sets the audit login uid, where there is one and it may be set.
static void login(const char *uid) {
	int fd = open("/proc/self/loginuid", O_WRONLY | O_CLOEXEC);
	if (fd >= 0 && write(fd, uid, strlen(uid)) < 0)
		obs("loginuid can't be set");
	close(fd);
}

// deadline has the task scheduled with one, if the machine has time to give away.
static void deadline(void) {
	struct {
		uint32_t size, policy;
		uint64_t flags;
		int32_t nice;
		uint32_t prio;
		uint64_t runtime, deadline, period;
	} a = {sizeof a, SCHED_DEADLINE, 2 /* SCHED_FLAG_RECLAIM */, 0, 0, 3000000, 40000000, 50000000};
	if (syscall(SYS_sched_setattr, 0, &a, 0))
		obs("no deadline: %s", strerror(errno));
}

// bind has the task run on one CPU only, the first that it may run on.
static void bind(void) {
	cpu_set_t set;
	int i = 0;
	CHECK(sched_getaffinity(0, sizeof set, &set));
	while (!CPU_ISSET(i, &set))
		i++;
	CPU_ZERO(&set);
	CPU_SET(i, &set);
	CHECK(sched_setaffinity(0, sizeof set, &set));
}

static void look_more(void) {
	uint64_t attr[7];
	cpu_set_t set;
	CHECK(syscall(SYS_sched_getattr, 0, attr, sizeof attr, 0));
	obs("policy %u flags %llx slice or runtime %llu deadline %llu period %llu", (uint32_t)(attr[0] >> 32), (unsigned long long)attr[1], (unsigned long long)attr[3], (unsigned long long)attr[4], (unsigned long long)attr[5]);
	if (!strcmp(ctl_name, "root"))
		autogroup();
	obs("timerslack %d personality %x", prctl(PR_GET_TIMERSLACK), personality(-1));
	file("/proc/self/coredump_filter");
	CHECK(sched_getaffinity(0, sizeof set, &set));
	obs("on %d CPUs, I/O priority %lx", CPU_COUNT(&set), CHECK(syscall(SYS_ioprio_get, 1, 0)));
	// Linux 6.3
	obs("membarrier %lx, machine checks %d", syscall(SYS_membarrier, 1 << 9, 0, 0), prctl(PR_MCE_KILL_GET, 0, 0, 0, 0));
}

static void look(void) {
	mode_t m = umask(0);
	umask(m);
	obs("umask %o", m);
	char cwd[400];
	MUST(getcwd(cwd, sizeof cwd));
	obs("cwd %s", cwd + strlen(ctl_dir));
	for (int i = 0; i < 16; i++) {
		struct rlimit r;
		CHECK(getrlimit(i, &r));
		obs("rlimit %d %llx %llx", i, (unsigned long long)r.rlim_cur, (unsigned long long)r.rlim_max);
	}
	struct sched_param sp;
	CHECK(sched_getparam(0, &sp));
	errno = 0;
	obs("sched %d prio %d nice %d", CHECK(sched_getscheduler(0)), sp.sched_priority, getpriority(PRIO_PROCESS, 0));
	obs("thp %d", prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0));
	file("/proc/self/oom_score_adj");
	if (!access("/proc/self/loginuid", R_OK))
		file("/proc/self/loginuid");
	if (more)
		look_more();
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	int pol[] = {SCHED_OTHER, SCHED_BATCH, SCHED_IDLE, SCHED_FIFO, SCHED_RR | SCHED_RESET_ON_FORK};
	pid_t kids[5];
	more = !strcmp(argv[1], "more");
	CHECK(mkdir("sub", 0700));
	login("1234");
	for (int i = 0; i < 5; i++) {
		char name[16];
		snprintf(name, sizeof name, "kid%d", i);
		ctl_party(name);
		if ((kids[i] = CHECK(fork())))
			continue;
		ctl_child(name);
		if (i < 2)
			login(i ? "4294967295" : "4321");
		CHECK(sched_setscheduler(0, pol[i], &(struct sched_param){i < 3 ? 0 : 3}));
		if (i < 2)
			CHECK(setpriority(PRIO_PROCESS, 0, i ? -3 : 7));
		CHECK(setrlimit(RLIMIT_NOFILE, &(struct rlimit){100 + i, 200}));
		CHECK(setrlimit(RLIMIT_CORE, &(struct rlimit){i, RLIM_INFINITY}));
		if (more && i == 2)
			deadline();
		if (more && i == 1) {
			bind();
			CHECK(syscall(SYS_ioprio_set, 1, 0, 2 << 13 | 6)); // best effort
			CHECK(prctl(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_EARLY, 0, 0));
			CHECK(syscall(SYS_membarrier, 1 << 4 /* MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED */, 0, 0));
		}
		umask(i * 011);
		CHECK(chdir("sub"));
		do
			look();
		while (savepoint());
		_exit(0);
	}
	CHECK(prctl(PR_SET_TIMERSLACK, 123456));
	if (more) {
		uint32_t attr[14] = {sizeof attr, [6] = 7000000};
		CHECK(syscall(SYS_sched_setattr, 0, attr, 0));
		int fd = open("/proc/self/autogroup", O_WRONLY);
		if (fd >= 0)
			CHECK(write(fd, "5", 1));
		close(fd);
	}
	CHECK(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0));
	CHECK(personality(ADDR_NO_RANDOMIZE));
	int fd = CHECK(open("/proc/self/oom_score_adj", O_WRONLY));
	CHECK(write(fd, "321", 3));
	close(fd);
	fd = CHECK(open("/proc/self/coredump_filter", O_WRONLY));
	CHECK(write(fd, "0x7", 3));
	close(fd);
	do
		look();
	while (savepoint());
	for (int i = 0; i < 5; i++)
		reap(kids[i]);
	return 0;
}
