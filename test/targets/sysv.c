// System V shared memory: attached twice, read-only, with a part that is
// protected, by a child that has it from its parent, one that goes with its last
// attachment, and one that another user has made.
#include "ctl.h"
#include <sys/ipc.h>
#include <sys/shm.h>

enum { SIZE = 3 * 4096 + 100 };
static int kept, going, foreign;
static volatile uint64_t *a, *again, *b, *c;
static key_t key;

static void stat_of(const char *name, int id) {
	struct shmid_ds ds;
	if (shmctl(id, IPC_STAT, &ds) < 0) {
		obs("%s: %s", name, strerror(errno));
		return;
	}
	obs("%s: size %d mode %#o owner %d %d creator %d %d attached by us %d", name, (int)ds.shm_segsz, ds.shm_perm.mode, ds.shm_perm.uid, ds.shm_perm.gid,
	    ds.shm_perm.cuid, ds.shm_perm.cgid, (int)ds.shm_nattch > 0); // the child may have ended
	obs("%s: its own key %d", name, ds.shm_perm.__key == key);
}

static void look(int me) {
	uint64_t round = 0;
	do {
		round++;
		a[me] = b[me] = c[me] = round;
		while (a[!me] < round || b[!me] < round || c[!me] < round)
			nanosleep(&(struct timespec){0, 1000000}, NULL);
		obs("round %d again %d far %d %d", (int)round, (int)again[me], (int)a[1024], (int)b[1200]);
		obs("=at %p %p %p %p, %d %d %d", a, again, b, c, kept, going, foreign);
		while (a[me ? 2 : 3] + 1 < round) // both have looked
			nanosleep(&(struct timespec){0, 1000000}, NULL);
		a[me ? 3 : 2] = round;
		if (!me) {
			stat_of("kept", kept);
			stat_of("going", going);
			stat_of("foreign", foreign);
			obs("key finds it: %d", shmget(key, 0, 0) == kept);
		}
	} while (savepoint());
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	key = 0x476c0000 + getpid();
	kept = CHECK(shmget(key, SIZE, IPC_CREAT | IPC_EXCL | 0640));
	going = CHECK(shmget(IPC_PRIVATE, SIZE, IPC_CREAT | 0600));
	CHECK(setegid(1001));
	CHECK(seteuid(1002));
	foreign = CHECK(shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0666));
	CHECK(seteuid(0));
	CHECK(setegid(0));
	a = CHECK(shmat(kept, NULL, 0));
	again = CHECK(shmat(kept, NULL, SHM_RDONLY));
	b = CHECK(shmat(going, NULL, 0));
	c = CHECK(shmat(foreign, NULL, 0));
	CHECK(shmctl(going, IPC_RMID, NULL));
	CHECK(shmctl(foreign, IPC_RMID, NULL));
	a[1024] = 77;
	b[1200] = 78;
	CHECK(mprotect((char *)a + 4096, 4096, PROT_READ));
	CHECK(madvise((char *)b + 4096, 4096, MADV_DONTDUMP));
	ctl_party("child");
	pid_t pid = CHECK(fork());
	if (pid == 0) {
		ctl_child("child");
		CHECK(mprotect((char *)b, 4096, PROT_READ | PROT_WRITE | PROT_EXEC));
		CHECK(shmdt((void *)again));
		again = a;
		look(1);
		_exit(0);
	}
	look(0);
	reap(pid);
	obs("written by the child %d", (int)a[1]);
	CHECK(mprotect((char *)a + 4096, 4096, PROT_READ | PROT_WRITE));
	a[600] = 5;
	obs("writable %d", mprotect((void *)again, 4096, PROT_WRITE));
	CHECK(shmdt((void *)a));
	CHECK(shmdt((void *)again));
	CHECK(shmdt((void *)b));
	stat_of("kept", kept);
	stat_of("going", going);
	CHECK(shmctl(kept, IPC_RMID, NULL));
	savepoint();
	return 0;
}
