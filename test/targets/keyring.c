// Session keyrings: an anonymous one with keys and the user's in it, one that a
// child has from its parent, a named one, and one of another user; and a process that has keys which
// it requests put into one of a thread, which it doesn't have.
#include "ctl.h"
#include <linux/keyctl.h>
#include <pthread.h>

static long key(int op, long a, long b, long c, long d) { return syscall(SYS_keyctl, op, a, b, c, d); }

static long ring(long which) { return CHECK(key(KEYCTL_GET_KEYRING_ID, which, 0, 0, 0)); }

static void look(void) {
	char text[256] = "";
	int32_t in[8];
	char all[8][600];
	CHECK(key(KEYCTL_DESCRIBE, KEY_SPEC_SESSION_KEYRING, (long)text, sizeof text, 0));
	long n = CHECK(key(KEYCTL_READ, KEY_SPEC_SESSION_KEYRING, (long)in, sizeof in, 0));
	obs("%s, %ld in it", text, n / 4);
	for (long i = 0; i < n / 4; i++) {
		char is[256] = "", has[256] = "";
		if (in[i] != ring(KEY_SPEC_USER_KEYRING)) {
			CHECK(key(KEYCTL_DESCRIBE, in[i], (long)is, sizeof is, 0));
			CHECK(key(KEYCTL_READ, in[i], (long)has, sizeof has, 0));
		}
		snprintf(all[i], sizeof all[i], "%s, %s", is, has);
	}
	qsort(all, n / 4, sizeof *all, (void *)strcmp); // they come in any order
	for (long i = 0; i < n / 4; i++)
		obs("key %ld: %s", i, all[i]);
	obs("keys that are requested go to %ld", key(KEYCTL_SET_REQKEY_KEYRING, KEY_REQKEY_DEFL_NO_CHANGE, 0, 0, 0));
	obs("process keyring %ld", key(KEYCTL_GET_KEYRING_ID, KEY_SPEC_PROCESS_KEYRING, 0, 0, 0));
}

static void child(const char *name, int uid, const char *session, int link) {
	ctl_party(name);
	if (CHECK(fork()))
		return;
	ctl_child(name);
	if (uid)
		CHECK(setresuid(uid, uid, uid));
	CHECK(key(KEYCTL_SET_REQKEY_KEYRING, uid ? KEY_REQKEY_DEFL_USER_SESSION_KEYRING : KEY_REQKEY_DEFL_SESSION_KEYRING, 0, 0, 0));
	if (session)
		CHECK(key(KEYCTL_JOIN_SESSION_KEYRING, (long)(*session ? session : NULL), 0, 0, 0));
	if (link)
		CHECK(key(KEYCTL_LINK, KEY_SPEC_USER_KEYRING, KEY_SPEC_SESSION_KEYRING, 0, 0));
	if (link) // with the permissions that keys have if nobody says otherwise
		CHECK(syscall(SYS_add_key, "user", "own", "secret", 6, KEY_SPEC_SESSION_KEYRING));
	if (session && *session)
		CHECK(key(KEYCTL_SETPERM, KEY_SPEC_SESSION_KEYRING, 0x3f1f0000, 0, 0));
	do
		look();
	while (savepoint());
	_exit(0);
}

// asks makes a process that has its keys put into a thread's keyring, as whoever comes from a helper of
// the kernel's has, and has none.
static void *asks(void *unused) {
	CHECK(key(KEYCTL_SET_REQKEY_KEYRING, KEY_REQKEY_DEFL_THREAD_KEYRING, 0, 0, 0));
	ctl_party("asks");
	if (CHECK(fork()))
		return unused;
	ctl_child("asks");
	do
		obs("thread keyring %ld", key(KEYCTL_GET_KEYRING_ID, KEY_SPEC_THREAD_KEYRING, 0, 0, 0));
	while (savepoint());
	_exit(0);
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	int own = atoi(argv[1]);
	if (own) {
		CHECK(key(KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0));
		CHECK(key(KEYCTL_LINK, KEY_SPEC_USER_KEYRING, KEY_SPEC_SESSION_KEYRING, 0, 0));
		CHECK(syscall(SYS_add_key, "user", "mine", "possessed", 9, KEY_SPEC_SESSION_KEYRING));
		long k = CHECK(syscall(SYS_add_key, "user", "start;1", "0123", 4, KEY_SPEC_SESSION_KEYRING));
		CHECK(key(KEYCTL_CHOWN, k, 0, 78, 0));
		CHECK(key(KEYCTL_SETPERM, k, 0x1b1b0000, 0, 0)); // as systemd has it
	}
	child("same", 0, NULL, 0);
	child("named", 0, "glis-test", 0);
	child("user", 1234, "", 1);
	pthread_t t;
	OK(pthread_create(&t, NULL, asks, NULL));
	OK(pthread_join(t, NULL));
	long first = ring(KEY_SPEC_SESSION_KEYRING);
	do {
		look();
		obs("there: %d", first != 0);
	} while (savepoint());
	for (int i = 0; i < 4; i++) {
		int st;
		CHECK(wait(&st));
		MUST(st == 0);
	}
	return 0;
}
