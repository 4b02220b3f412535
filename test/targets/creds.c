// Credentials per thread: ids, groups, capabilities, securebits,
// no_new_privs, dumpable and the parent death signal.
#include "ctl.h"
#include <linux/capability.h>
#include <linux/securebits.h>
#include <pthread.h>

static pthread_barrier_t turn;

static void look(const char *who) {
	uid_t r, e, s;
	gid_t g[8];
	CHECK(syscall(SYS_getresuid, &r, &e, &s));
	obs("%s uid %d %d %d fs %d", who, r, e, s, (int)syscall(SYS_setfsuid, -1));
	CHECK(syscall(SYS_getresgid, &r, &e, &s));
	obs("%s gid %d %d %d fs %d", who, r, e, s, (int)syscall(SYS_setfsgid, -1));
	int n = CHECK(syscall(SYS_getgroups, 8, g));
	for (int i = 0; i < n; i++)
		obs("%s group %d", who, g[i]);
	struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct d[2];
	CHECK(syscall(SYS_capget, &h, d));
	for (int i = 0; i < 2; i++)
		obs("%s cap %x %x %x", who, d[i].effective, d[i].permitted, d[i].inheritable);
	for (int c = 0; c < 41; c++)
		if (!prctl(PR_CAPBSET_READ, c, 0, 0, 0) || prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, c, 0, 0))
			obs("%s cap %d bound %d ambient %d", who, c, prctl(PR_CAPBSET_READ, c, 0, 0, 0),
			    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, c, 0, 0));
	int pds = -1;
	CHECK(prctl(PR_GET_PDEATHSIG, &pds));
	obs("%s securebits %x nnp %d pdeathsig %d keepcaps %d", who, prctl(PR_GET_SECUREBITS), prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0),
	    pds, prctl(PR_GET_KEEPCAPS));
	obs("%s dumpable %d", who, prctl(PR_GET_DUMPABLE));
}

static void inherit(unsigned mask) {
	struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct d[2];
	CHECK(syscall(SYS_capget, &h, d));
	d[0].effective = d[0].permitted = d[0].inheritable = mask;
	d[1].effective = d[1].permitted = d[1].inheritable = 0;
	CHECK(syscall(SYS_capset, &h, d));
}

static void *body(void *arg) { // a thread that is somebody else, as NFS servers have
	CHECK(syscall(SYS_setgroups, 3, (gid_t[]){5, 77, 4000000}));
	CHECK(syscall(SYS_setresgid, 100, 101, 102));
	CHECK(prctl(PR_SET_KEEPCAPS, 1));
	CHECK(syscall(SYS_setresuid, 1000, 1001, 1002));
	inherit(1 << CAP_NET_BIND_SERVICE | 1 << CAP_CHOWN);
	CHECK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_CHOWN, 0, 0));
	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	pthread_barrier_wait(&turn); // changing ids changed what all share: dumpable
	while (pthread_barrier_wait(&turn), !ctl_done) {
		look("thread");
		pthread_barrier_wait(&turn);
	}
	return NULL;
}

static void child(const char *name, int kind) {
	ctl_child(name);
	CHECK(prctl(PR_SET_PDEATHSIG, SIGUSR1 + kind));
	if (kind) {
		CHECK(prctl(PR_CAPBSET_DROP, CAP_SYS_MODULE));
		CHECK(prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP | SECBIT_KEEP_CAPS_LOCKED));
		CHECK(syscall(SYS_setgroups, 0, NULL));
		CHECK(syscall(SYS_setresgid, 65534, 65534, 65534));
		CHECK(syscall(SYS_setresuid, 65534, 65534, 65534));
		inherit(0);
		CHECK(prctl(PR_SET_PDEATHSIG, SIGTERM)); // changing ids clears it
	}
	CHECK(prctl(PR_SET_DUMPABLE, kind));
	do
		look(name);
	while (savepoint());
	_exit(0);
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	pid_t kids[2];
	const char *names[] = {"undumpable", "nobody"};
	int n = strcmp(argv[1], "all") ? 0 : 2;
	for (int i = 0; i < n; i++) {
		ctl_party(names[i]);
		if (!(kids[i] = CHECK(fork())))
			child(names[i], i);
	}
	pthread_t th;
	OK(pthread_barrier_init(&turn, NULL, 2));
	OK(pthread_create(&th, NULL, body, NULL));
	pthread_barrier_wait(&turn);
	do {
		look("main");
		pthread_barrier_wait(&turn);
		pthread_barrier_wait(&turn);
	} while (savepoint());
	pthread_barrier_wait(&turn);
	OK(pthread_join(th, NULL));
	for (int i = 0; i < n; i++)
		reap(kids[i]);
	return 0;
}
