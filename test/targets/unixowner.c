// Whom unix sockets belong to (fstat): one that was accepted to who accepts, also if it comes
// back as its peer, another user's process which has ended, would make it.
#include "unix.h"
#include <grp.h>

static void owner(int i) {
	struct stat st;
	struct ucred who;
	socklen_t n = sizeof who;
	CHECK(fstat(sk[i].fd, &st));
	CHECK(getsockopt(sk[i].fd, SOL_SOCKET, SO_PEERCRED, &who, &n));
	obs("%s: of %d %d, mode %o, its peer %d %d", sk[i].name, st.st_uid, st.st_gid, st.st_mode, who.uid, who.gid);
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	int l = add("listener", listening(SOCK_STREAM, NAME("owner")));
	CHECK(chmod("owner", 0777));
	pid_t pid = CHECK(fork());
	if (!pid) {
		CHECK(setgroups(1, (gid_t[]){4002}));
		CHECK(setresgid(4001, 4001, 4001)), CHECK(setresuid(4000, 4000, 4000));
		CHECK(write(client(SOCK_STREAM, NAME("owner")), "hey", 3));
		_exit(0);
	}
	CHECK(waitpid(pid, NULL, 0));
	add("accepted", CHECK(accept(l, NULL, NULL)));
	do
		for (int i = 0; i < sks; i++)
			owner(i);
	while (savepoint());
	return 0;
}
