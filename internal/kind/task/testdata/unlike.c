// Two threads for each thing that a thread can have another way than others, both
// with its name, and some named "plain". A name that begins with "!" is that of a
// state which a dump refuses, "-" says that the kernel or machine lacks it.
#include <errno.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/securebits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

struct attr { uint32_t size, policy; uint64_t flags; int32_t nice; uint32_t prio; uint64_t runtime, deadline, period; uint32_t lo, hi; };

static int same(void) { return 0; }
static int attr(struct attr a) { a.size = sizeof a; return syscall(SYS_sched_setattr, 0, &a, 0); }
static int nice_(void) { return setpriority(PRIO_PROCESS, gettid(), 5); }
static int batch(void) { return attr((struct attr){.policy = 3}); }
static int idle(void) { return attr((struct attr){.policy = 5}); }
static int fifo(void) { return attr((struct attr){.policy = 1, .prio = 4}); }
static int fifo5(void) { return attr((struct attr){.policy = 1, .prio = 5}); }
static int rr(void) { return attr((struct attr){.policy = 2, .prio = 4}); }
static int reset(void) { return attr((struct attr){.flags = 1}); }
// slice sees whether it got one: before Linux 6.12 it is ignored.
static int slice(void) {
	struct attr is = {0};
	if (attr((struct attr){.runtime = 7000000}) || syscall(SYS_sched_getattr, 0, &is, sizeof is, 0))
		return -1;
	errno = ENOSYS;
	return is.runtime == 7000000 ? 0 : -1;
}
static int deadline(void) { return attr((struct attr){.policy = 6, .runtime = 100000, .deadline = 50000000, .period = 100000000}); }
static int clamp(void) { return attr((struct attr){.flags = 0x60, .lo = 10, .hi = 600}); }
static int cpu(void) { return syscall(SYS_sched_setaffinity, 0, 8, (unsigned long[]){1}); }
static int persona(void) { return personality(ADDR_NO_RANDOMIZE); }
static int slack(void) { return prctl(PR_SET_TIMERSLACK, 4321); }
static int ioprio(void) { return syscall(SYS_ioprio_set, 1, 0, 2 << 13 | 6); }
static int ioprio7(void) { return syscall(SYS_ioprio_set, 1, 0, 2 << 13 | 7); }
static int mce(void) { return prctl(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_LATE, 0, 0); }
static int tsc(void) { return prctl(PR_SET_TSC, PR_TSC_SIGSEGV, 0, 0, 0); }
static int cpuid(void) { return syscall(SYS_arch_prctl, 0x1012, 0); }
static int spec(int which, int how) { return prctl(PR_SET_SPECULATION_CTRL, which, how, 0, 0); }
static int spec0(void) { return spec(0, 4); }
static int spec1(void) { return spec(1, 4); }
static int spec2(void) { return spec(2, 2); }
static int numa(void) { return syscall(SYS_set_mempolicy, 1, (unsigned long[]){1}, 65); }
static int cookie(void) { return prctl(62 /* PR_SCHED_CORE */, 1 /* CREATE */, 0, 0, 0); }
static int ids(int nr, int a, int b, int c) { return syscall(nr, a, b, c); }
static int ruid(void) { return ids(SYS_setresuid, 1000, -1, -1); }
static int euid(void) { return ids(SYS_setresuid, -1, 1000, -1); }
static int suid(void) { return ids(SYS_setresuid, -1, -1, 1000); }
static int fsuid(void) { syscall(SYS_setfsuid, 1000); return 0; }
static int rgid(void) { return ids(SYS_setresgid, 1000, -1, -1); }
static int egid(void) { return ids(SYS_setresgid, -1, 1000, -1); }
static int sgid(void) { return ids(SYS_setresgid, -1, -1, 1000); }
static int fsgid(void) { syscall(SYS_setfsgid, 1000); return 0; }
static int groups(int n, int last) {
	gid_t all[32];
	for (int i = 0; i < n; i++)
		all[i] = i + 1;
	all[n - 1] = last;
	return syscall(SYS_setgroups, n, all);
}
static int group(void) { return groups(1, 9); }
static int groups8(void) { return groups(8, 100); }
static int groups20(void) { return groups(20, 200); }
static int groups21(void) { return groups(20, 201); }
static int nogroup(void) { return syscall(SYS_setgroups, 0, NULL); }
static int caps(int eff, int prm, int inh) {
	struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct d[2];
	if (syscall(SYS_capget, &h, d))
		return -1;
	d[0].effective &= ~eff;
	d[0].permitted &= ~prm;
	d[0].inheritable |= inh;
	return syscall(SYS_capset, &h, d);
}
static int capeff(void) { return caps(1 << CAP_KILL, 0, 0); }
static int capprm(void) { return caps(1 << CAP_KILL, 1 << CAP_KILL, 0); }
static int capinh(void) { return caps(0, 0, 1 << CAP_CHOWN); }
static int capamb(void) { return caps(0, 0, 1 << CAP_KILL) ?: prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_KILL, 0, 0); }
static int capbnd(void) { return prctl(PR_CAPBSET_DROP, CAP_SYS_MODULE); }
static int secbits(void) { return prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP); }
static int nnp(void) { return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); }
static int filter(void) {
	struct sock_filter all[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &(struct sock_fprog){1, all});
}
static __thread char stack[32768];
static int altstack(void) { return sigaltstack(&(stack_t){.ss_sp = stack, .ss_size = sizeof stack}, NULL); }
static int disarm(void) { return sigaltstack(&(stack_t){.ss_sp = stack, .ss_size = sizeof stack, .ss_flags = 1U << 31}, NULL); }
static int onstack(void) { return 0; }
static int death(void) { return prctl(PR_SET_PDEATHSIG, SIGHUP); }
static int robust(void) { return syscall(SYS_set_robust_list, NULL, 24); }
static int block(void) { sigset_t s; sigemptyset(&s); sigaddset(&s, SIGUSR1); return pthread_sigmask(SIG_BLOCK, &s, NULL); }
static int wait(void) { return block() ?: syscall(SYS_tgkill, getpid(), gettid(), SIGUSR1); }
static int flusher(void) { return prctl(57 /* PR_SET_IO_FLUSHER */, 1, 0, 0, 0); }
static int ring(void) { return syscall(SYS_add_key, "user", "glis", "x", 1, -1) == -1 ? -1 : 0; }
static int session(void) { return syscall(SYS_keyctl, 1, "glis-unlike") == -1 ? -1 : 0; }
static int reqkeys(void) { return syscall(SYS_keyctl, 14 /* SET_REQKEY_KEYRING */, 4 /* the user's */) == -1 ? -1 : 0; }
static int ports(void) { return syscall(SYS_ioperm, 0x80, 1, 1); }
static int allports(void) { return syscall(SYS_iopl, 3); }
static char allow;
static int dispatch(void) { return prctl(59, 1, 0, 0, &allow); }

static struct { const char *name; int (*make)(void); } all[] = {
#define X(f) {#f, f}
	{"plain", same}, {"plain", same}, {"nice", nice_}, X(batch), X(idle), X(fifo), X(fifo5), X(rr), X(reset), X(slice), X(deadline), X(clamp), X(cpu), X(persona),
	X(slack), X(ioprio), X(ioprio7), X(mce), X(tsc), X(cpuid), X(spec0), X(spec1), X(spec2), X(numa), {"!cookie", cookie},
	X(ruid), X(euid), X(suid), X(fsuid), X(rgid), X(egid), X(sgid), X(fsgid), X(group), X(groups8), X(groups20), X(groups21), {"plain", nogroup},
	X(capeff), X(capprm), X(capinh), X(capamb), X(capbnd), X(secbits), X(nnp), X(filter), X(reqkeys),
	X(altstack), X(disarm), X(onstack), X(death), X(robust), X(block), X(wait),
	{"!flusher", flusher}, {"!ring", ring}, {"!session", session}, {"!ports", ports}, {"!allports", allports}, {"!dispatch", dispatch},
};
static pthread_barrier_t ready;

static void rest(int sig) {
	pthread_barrier_wait(&ready);
	for (;;)
		pause();
}

static void *body(void *arg) {
	int i = (intptr_t)arg;
	char name[16];
	snprintf(name, sizeof name, "%s", all[i].name);
	if (all[i].make()) {
		if (errno != ENOSYS && errno != EINVAL && errno != ENODEV && errno != ENXIO && errno != EPERM && errno != EBUSY && errno != EOPNOTSUPP) {
			fprintf(stderr, "%s: %s\n", name, strerror(errno));
			_exit(1);
		}
		snprintf(name, sizeof name, "-%s", all[i].name);
	}
	prctl(PR_SET_NAME, name);
	if (all[i].make == onstack) {
		altstack();
		struct sigaction sa = {.sa_handler = rest, .sa_flags = SA_ONSTACK};
		sigaction(SIGUSR2, &sa, NULL);
		syscall(SYS_tgkill, getpid(), gettid(), SIGUSR2);
	}
	rest(0);
	return NULL;
}

int main(void) {
	const int n = sizeof all / sizeof *all;
	if (nogroup())
		return 1;
	pthread_barrier_init(&ready, NULL, 2 * n + 1);
	pthread_attr_t a;
	pthread_attr_init(&a);
	pthread_attr_setstacksize(&a, 131072);
	for (int i = 0; i < 2 * n; i++) {
		pthread_t th;
		if (pthread_create(&th, &a, body, (void *)(intptr_t)(i % n)))
			return 1;
	}
	pthread_barrier_wait(&ready);
	printf("ready\n");
	fflush(stdout);
	for (;;)
		pause();
}
