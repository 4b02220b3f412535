// A file whose name was deleted while it is open, and that has another one.
#include "ctl.h"

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	char a[320], b[300], text[100] = "", self[64], dir[300], name[320] = "";
	snprintf(dir, sizeof dir, "%s/d", argv[argc - 1]);
	CHECK(mkdir(dir, 0755));
	snprintf(a, sizeof a, "%s/a", dir), snprintf(b, sizeof b, "%s/b", argv[argc - 1]);
	int fd = CHECK(open(a, O_RDWR | O_CREAT | O_APPEND, 0600)), other = CHECK(open(a, O_RDONLY));
	CHECK(link(a, b)), CHECK(unlink(a));
	do {
		struct stat st, st2;
		CHECK(write(fd, "+", 1));
		CHECK(pread(other, text, 99, 0));
		CHECK(fstat(fd, &st)), CHECK(stat(b, &st2));
		MUST(st.st_ino == st2.st_ino && st.st_dev == st2.st_dev);
		snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
		obs("%s, %d links, flags %o", text, ctl_gen ? 0 : (int)st.st_nlink, fcntl(fd, F_GETFL));
		CHECK(readlink(self, name, sizeof name - 1));
		obs("=called %s", name);
	} while (savepoint());
	return 0;
}
