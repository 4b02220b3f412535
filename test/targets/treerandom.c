// Does random things with processes, threads and descriptors, which ones argv[1] decides: argv[2]
// steps between save points. What is compared is what /proc tells of all, and what they find.
#include "treeworld.h"
#include "treelook.h"
#include "treefiles.h"
#include <pthread.h>
#include <sched.h>
#include <sys/fsuid.h>
#include <sys/personality.h>
#include <sys/syscall.h>
#include <linux/capability.h>

static const int signals[] = {SIGUSR1, SIGUSR2, SIGHUP, SIGTERM, SIGALRM, SIGIO, SIGCHLD, SIGCONT, SIGTSTP, SIGTTIN, SIGTTOU, SIGURG, SIGINT, SIGQUIT, SIGPIPE, 0, 0};
enum { SIGNALS = 17 };

static int sig(void) {
	int n = rnd(SIGNALS);
	return n >= SIGNALS - 2 ? SIGRTMIN + n - SIGNALS + 3 : signals[n];
}

// caught writes down a signal. Who sent it has a name; a user's number is told where /proc keeps it.
static void caught(int s, siginfo_t *i, void *c) {
	(void)c;
	struct actor *a = &w->a[me];
	if (a->nheard == 60 || (s == SIGCHLD && i->si_code > 0))
		return; // of a stopped child a parent hears once more, and it takes the place of another one that waits
	char *b = a->heard[a->nheard++];
	if (i->si_code == SI_USER || i->si_code == SI_TKILL)
		snprintf(b, 60, "%d code %d of %s", s, i->si_code, name(i->si_pid));
	else if (i->si_code == SI_QUEUE)
		snprintf(b, 60, "%d code %d of %s value %d", s, i->si_code, name(i->si_pid), i->si_value.sival_int);
	else
		snprintf(b, 60, "%d code %d band %ld", s, i->si_code, i->si_code == SI_KERNEL ? 0 : i->si_band);
}

// whom is an actor, and its process.
static int whom(pid_t *pid) {
	int i = some();
	*pid = w->a[i].pid;
	return i;
}

static int threads(pid_t pid) {
	int n = 0;
	for (int i = 0; i < w->n; i++)
		n += w->a[i].pid == pid && !w->a[i].gone;
	return n;
}

static pid_t mine(void) { return w->a[me].pid; }

static char room_[ACTORS][40 << 10] __attribute__((aligned(16)));

// begin makes another process.
static void begin(unsigned long flags) {
	if (living() >= LIVING || w->n >= ACTORS - 1)
		return;
	if (mine() == w->a[0].pid && flags & CLONE_PARENT)
		flags = 0;
	int n = born();
	long pid = flags ? syscall(SYS_clone, flags | SIGCHLD, NULL, NULL, NULL, NULL) : fork();
	if (pid == 0)
		act(n);
	if (pid < 0) {
		did(-1, "clone %lx", flags);
		return;
	}
	w->a[n].pid = w->a[n].tid = pid, w->n = n + 1;
	did(0, "clone %lx: t%d", flags, n);
}

static void *thread(void *at) {
	int n = (intptr_t)at;
	w->a[n].pid = getpid(), w->a[n].tid = gettid();
	act(n);
}

static void begin_thread(void) {
	if (living() >= LIVING || w->n >= ACTORS - 1)
		return;
	int n = born();
	pthread_t t;
	pthread_attr_t attr;
	pthread_attr_init(&attr);
	OK(pthread_attr_setstack(&attr, room_[n], sizeof room_[n]));
	OK(pthread_create(&t, &attr, thread, (void *)(intptr_t)n));
	while (!((volatile struct world *)w)->a[n].tid)
		sched_yield();
	w->n = n + 1;
	did(0, "thread t%d", n);
}

static void vforked(void) {
	pid_t pid = vfork();
	if (!pid)
		_exit(3);
	int st = 0;
	waitpid(pid, &st, 0);
	did(st, "vfork");
}

static void groups(void) {
	pid_t a, b;
	whom(&a), whom(&b);
	switch (rnd(8)) {
	case 0:
	case 1:
		did(setsid() < 0 ? -1 : 0, "setsid");
		break;
	case 2:
		did(setpgid(0, 0), "setpgid");
		break;
	case 3:
	case 4:
		did(setpgid(a, 0), "setpgid %s", name(a));
		break;
	case 5:
		did(setpgid(0, b), "setpgid 0 %s", name(b));
		break;
	case 6:
		did(setpgid(a, getpgid(b)), "setpgid %s as %s", name(a), name(b));
		break;
	default:
		did(setpgid(0, getpgid(b)), "setpgid as %s", name(b));
	}
}

// end ends a process or a thread.
static void end(void) {
	if (mine() == w->a[0].pid)
		return;
	int code = rnd(9), how = rnd(6);
	if (how < 3 && threads(mine()) > 1 && w->a[me].tid != mine()) {
		say("t%d: ends", me);
		leave(1);
		syscall(SYS_exit, 0);
	}
	if (how == 0 && threads(mine()) > 1) {
		say("t%d: ends before others", me);
		leave(1);
		syscall(SYS_exit, 0);
	}
	for (int i = 0; i < w->n; i++)
		if (w->a[i].pid == mine() && !w->a[i].gone)
			w->a[i].leaves = 1;
	say("t%d: exits %d", me, code);
	w->turn = 0;
	_exit(code);
}

static void await_(void) {
	siginfo_t i = {0};
	pid_t pid = w->a[rnd(w->n)].pid;
	// In which order several come isn't said.
	int flags = WEXITED | WNOHANG | (rnd(3) ? 0 : WNOWAIT) | (rnd(4) ? 0 : __WALL), how = rnd(4);
	if (how == 0)
		did(waitid(P_ALL, 0, &i, flags | WNOWAIT), "wait %x: %d", flags, i.si_pid > 0);
	else if (how == 1)
		did(waitid(P_PGID, getpgid(pid), &i, flags | WNOWAIT), "wait for group of %s %x: %d", name(pid), flags, i.si_pid > 0);
	else
		did(waitid(P_PID, pid, &i, flags), "wait %x: %s code %d status %d", flags, name(i.si_pid), i.si_code, i.si_status);
}

// tame tells whether a signal does not end the root, or stop it.
static int tame(pid_t group, int s) {
	return (s != SIGKILL && s != SIGSTOP) || group != getpgid(w->a[0].pid);
}

static void said(long r) {
	if (r < 0)
		say("t%d: %s", me, strerror(errno));
}

static void kill_(void) {
	pid_t pid;
	int i = whom(&pid), s = rnd(9) ? sig() : rnd(3) ? SIGSTOP : SIGKILL;
	if (rnd(6) == 0)
		s = SIGCONT;
	if (pid == w->a[0].pid && (s == SIGKILL || s == SIGSTOP))
		s = SIGUSR1;
	// What it does may end or stop who does it.
	int how = rnd(5);
	say("t%d: signal %d by %d to %s", me, s, how, name(how < 2 || how > 3 ? pid : w->a[i].tid));
	if (how == 0)
		said(kill(pid, s));
	else if (how == 1)
		said(sigqueue(pid, s, (union sigval){.sival_int = rnd(1000)}));
	else if (how < 4)
		said(syscall(SYS_tgkill, pid, w->a[i].tid, s));
	else {
		pid_t group = getpgid(pid);
		if (group > 1 && tame(group, s))
			said(kill(-group, s));
	}
}

static void masks(void) {
	sigset_t set;
	sigemptyset(&set);
	int s = sig(), t = sig(), how = (int[]){SIG_BLOCK, SIG_BLOCK, SIG_UNBLOCK, SIG_SETMASK}[rnd(4)];
	sigaddset(&set, s), sigaddset(&set, t);
	did(pthread_sigmask(how, &set, NULL), "mask %d %d %d", how, s, t);
}

static void action(void) {
	int s = sig(), how = rnd(6), flags = SA_SIGINFO | (rnd(2) ? SA_RESTART : 0) | (rnd(4) ? 0 : SA_NOCLDSTOP) | (rnd(8) ? 0 : SA_NOCLDWAIT) | (rnd(4) ? 0 : SA_ONSTACK);
	struct sigaction sa = {.sa_sigaction = caught, .sa_flags = flags};
	if (mine() == w->a[0].pid)
		return;
	if (how == 0)
		sa.sa_handler = SIG_IGN, sa.sa_flags = 0;
	else if (how == 1 && (s == SIGCHLD || s == SIGURG || s == SIGCONT || s == SIGTSTP || s == SIGTTIN || s == SIGTTOU || !rnd(3)))
		sa.sa_handler = SIG_DFL, sa.sa_flags = 0;
	did(sigaction(s, &sa, NULL), "action %d %d %x", s, how, flags);
}

// attributes changes what a process or thread is.
static void attributes(void) {
	char b[40];
	int k = rnd(18), n;
	if (mine() == w->a[0].pid && (k == 1 || k == 2 || k == 9 || k == 10 || k == 13))
		k = 0;
	switch (k) {
	case 0:
		sprintf(b, "name%d", rnd(9));
		did(prctl(PR_SET_NAME, b), "%s", b);
		break;
	case 1:
	case 2:
		n = rnd(2), did(prctl(PR_SET_CHILD_SUBREAPER, n), "subreaper %d", n);
		break;
	case 3:
		did(prctl(PR_SET_TIMERSLACK, 1000 * (1 + rnd(99))), "slack");
		break;
	case 4:
		did(setpriority(PRIO_PROCESS, 0, rnd(10)), "nice");
		break;
	case 5:
		n = rnd(512), umask(n), did(0, "umask %o", n);
		break;
	case 6: {
		struct rlimit l = {100 + rnd(100), 1000 + rnd(100)};
		did(setrlimit(RLIMIT_NOFILE, &l), "limit %lu", (long)l.rlim_cur);
		break;
	}
	case 7: {
		struct itimerval t = {{rnd(2), 0}, {rnd(2) * 100000, 0}};
		n = rnd(3), did(setitimer(n, &t, NULL), "itimer %d %ld", n, t.it_value.tv_sec);
		break;
	}
	case 8:
		n = rnd(3), did(prctl(PR_SET_PDEATHSIG, n ? SIGUSR1 + n : 0), "pdeathsig %d", n);
		break;
	case 9:
		n = 1000 + rnd(5), did(rnd(2) ? setresuid(-1, n, -1) : setresgid(-1, n, rnd(2) ? n : -1), "user %d", n);
		break;
	case 10:
		if (!rnd(3))
			n = 1000 + rnd(5), did(syscall(SYS_setresuid, n, n, rnd(2) ? n : 0), "no longer root %d", n);
		else
			did(syscall(SYS_setresuid, -1, 0, -1), "root again");
		break;
	case 11: {
		stack_t s = {.ss_sp = room_[me] + (me ? 0 : 0), .ss_size = rnd(2) ? 8192 : 16384, .ss_flags = rnd(3) ? 0 : SS_DISABLE};
		static char alt[ACTORS][16384];
		s.ss_sp = alt[me];
		did(sigaltstack(&s, NULL), "sigaltstack %d %d", (int)s.ss_size, s.ss_flags);
		break;
	}
	case 12: {
		cpu_set_t c;
		CPU_ZERO(&c);
		n = rnd(3);
		CPU_SET(n & 1, &c);
		if (n == 2)
			CPU_SET(1, &c);
		did(sched_setaffinity(0, sizeof c, &c), "affinity %d", n);
		break;
	}
	case 13:
		n = rnd(3), did(n == 0 ? prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) : n == 1 ? prctl(PR_SET_KEEPCAPS, rnd(2)) : prctl(PR_CAPBSET_DROP, CAP_SYS_PTRACE + 4 + rnd(3)), "privileges %d", n);
		break;
	case 14: {
		struct sigevent e = {.sigev_notify = (int[]){SIGEV_SIGNAL, SIGEV_NONE, SIGEV_THREAD_ID}[rnd(3)], .sigev_signo = SIGRTMIN + 1};
		int id;
		e._sigev_un._tid = gettid();
		struct itimerspec t = {{rnd(2) * 1000, 0}, {rnd(2) * 100000, 0}};
		did(syscall(SYS_timer_create, rnd(2) ? CLOCK_MONOTONIC : CLOCK_REALTIME, &e, &id) || syscall(SYS_timer_settime, id, 0, &t, NULL), "timer %d %ld", e.sigev_notify, t.it_value.tv_sec);
		break;
	}
	case 15: {
		struct sched_param p = {0};
		n = (int[]){SCHED_OTHER, SCHED_BATCH, SCHED_IDLE}[rnd(3)];
		did(sched_setscheduler(0, n | (rnd(4) ? 0 : SCHED_RESET_ON_FORK), &p), "policy %d", n);
		break;
	}
	case 16: {
		n = rnd(1000);
		sprintf(b, "%d", n);
		int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
		did(fd < 0 ? -1 : write(fd, b, strlen(b)), "oom %d", n), close(fd);
		break;
	}
	default:
		n = rnd(2), did(personality(n ? ADDR_NO_RANDOMIZE : 0), "personality %d", n);
	}
}

static void step(void) {
	int what = rnd(100);
	if (what < 10)
		begin(0);
	else if (what < 13)
		begin((unsigned long[]){CLONE_PARENT, CLONE_FILES, CLONE_FS, CLONE_FILES | CLONE_FS, CLONE_PARENT}[rnd(5)]);
	else if (what < 17)
		begin_thread();
	else if (what < 18)
		vforked();
	else if (what < 27)
		groups();
	else if (what < 32)
		end();
	else if (what < 36)
		await_();
	else if (what < 44)
		kill_();
	else if (what < 50)
		masks();
	else if (what < 54)
		action();
	else if (what < 64)
		attributes();
	else
		descriptor();
}

// look_inside tells what only a task itself knows.
static void look_inside(int last) {
	struct itimerval it;
	stack_t s;
	int sub = 0, death = 0;
	prctl(PR_GET_CHILD_SUBREAPER, &sub), prctl(PR_GET_PDEATHSIG, &death);
	sigaltstack(NULL, &s);
	say("t%d: subreaper %d death %d slack %d securebits %d keepcaps %d dumpable %d stack %d %d", me, sub, death, prctl(PR_GET_TIMERSLACK), prctl(PR_GET_SECUREBITS),
	    prctl(PR_GET_KEEPCAPS), prctl(PR_GET_DUMPABLE), (int)s.ss_size, s.ss_flags);
	for (int i = 0; i < 3; i++)
		getitimer(i, &it), say("t%d: itimer %d %d %ld", me, i, it.it_value.tv_sec || it.it_value.tv_usec, it.it_interval.tv_sec);
	for (int i = LOW; i < HIGH; i++) {
		struct f_owner_ex o = {0};
		struct pollfd p = {i, POLLIN | POLLOUT, 0};
		int n = -1, sg = 0, size, seals;
		if (!isopen(i))
			continue;
		fcntl(i, F_GETOWN_EX, &o), sg = fcntl(i, F_GETSIG), size = fcntl(i, F_GETPIPE_SZ), seals = fcntl(i, F_GET_SEALS);
		ioctl(i, FIONREAD, &n), poll(&p, 1, 0);
		say("t%d: %d owner %d %s signal %d size %d seals %d lease %d poll %x waits %d", me, i, o.pid ? o.type : -1, name(o.pid), sg, size, seals, fcntl(i, F_GETLEASE), p.revents, n);
	}
	if (!last)
		return;
	sigset_t set;
	sigemptyset(&set);
	pthread_sigmask(SIG_SETMASK, &set, NULL);
	for (int i = LOW; i < HIGH; i++)
		if (isopen(i)) {
			struct epoll_event ev[10];
			int n = epoll_wait(i, ev, 10, 0);
			for (int k = 0; k < n; k++)
				say("t%d: %d has %lx %x", me, i, ev[k].data.u64, ev[k].events);
			char b[20000];
			n = recv(i, b, sizeof b, MSG_DONTWAIT);
			if (n < 0 && errno == ENOTSOCK)
				n = read(i, b, sizeof b);
			say("t%d: %d contains %d %016lx", me, i, n, n > 0 ? fnv(b, n) : 0);
		}
}

static void observe(int how) {
	settle();
	say("---");
	tree();
	for (int i = 0; i < w->n; i++)
		if (!w->a[i].gone)
			let(i, how);
	settle();
}

// finish ends all.
static void finish(void) {
	for (int i = 1; i < w->n; i++)
		if (!w->a[i].gone && w->a[i].pid != w->a[0].pid)
			kill(w->a[i].pid, SIGKILL);
	while (wait(NULL) > 0)
		;
}

int main(int argc, char **argv) {
	int steps = atoi(argv[2]);
	char path[400];
	ctl_init(argc, argv);
	close_range(LOW, ~0u, 0);
	w = mmap(NULL, sizeof *w, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	w->state = strtoull(argv[1], NULL, 10) * 0x9e3779b97f4a7c15 + 1;
	w->a[0].pid = w->a[0].tid = getpid(), w->n = 1;
	for (int i = 0; i < 20; i++)
		rnd(2);
	struct sigaction sa = {.sa_sigaction = caught, .sa_flags = SA_SIGINFO | SA_RESTART};
	for (int i = 1; i < 65; i++)
		sigaction(i, &sa, NULL);
	signal(SIGSEGV, SIG_DFL), signal(SIGBUS, SIG_DFL), signal(SIGABRT, SIG_DFL), signal(SIGILL, SIG_DFL), signal(SIGFPE, SIG_DFL);
	CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1));
	do {
		if (argc > 4)
			fprintf(stderr, "%.*s", (int)w->len, w->log);
		observe(LOOK);
		for (int i = 0; i < steps && !ctl_exists("end", NULL); i++)
			let(some(), STEP);
		observe(ctl_exists("end", NULL) ? END : LOOK);
		tree();
		ctl_write(ctl_path(path, "obs", ctl_name), w->log, w->len), w->len = 0;
	} while (savepoint());
	finish();
	return 0;
}
