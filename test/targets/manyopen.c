// Many files of one directory (argv[1]), opened in various ways: at some place, with
// O_APPEND, close-on-exec in turn, so that neighbours differ. Two descriptors are of one
// file, one is of another directory, one number is far away, and one is free.
#include "ctl.h"
#include <sys/resource.h>

static int shown(int fd, char *say) {
	char path[64], link[400] = "";
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	int n = readlink(path, link, sizeof link - 1);
	if (n < 0)
		return sprintf(say, "none");
	return sprintf(say, "%s %o %d %ld", strncmp(link, ctl_dir, strlen(ctl_dir)) ? link : link + strlen(ctl_dir),
	               fcntl(fd, F_GETFL), fcntl(fd, F_GETFD), (long)lseek(fd, 0, SEEK_CUR));
}

int main(int argc, char **argv) {
	static const int how[] = {O_RDWR, O_RDONLY, O_WRONLY | O_APPEND, O_RDWR | O_CLOEXEC, O_RDONLY | O_NONBLOCK};
	ctl_init(argc, argv);
	int n = atoi(argv[1]), far = n + 100;
	char name[300];
	CHECK(setrlimit(RLIMIT_NOFILE, &(struct rlimit){n + 200, n + 200}));
	CHECK(mkdir("many", 0700));
	for (int i = 0; i < n; i++) {
		snprintf(name, sizeof name, i % 400 ? "many/%d" : "many/%d%0100d", i, 0);
		int f = CHECK(open(name, O_WRONLY | O_CREAT, 0600));
		CHECK(dprintf(f, "%d", i));
		close(f);
		int fd = CHECK(open(name, how[i % 5]));
		if (i % 3)
			CHECK(lseek(fd, i % 3, SEEK_SET));
	}
	CHECK(open("/dev/null", O_RDWR));
	CHECK(dup2(n / 2, far));
	CHECK(close(n / 2 + 1));
	CHECK(fcntl(n / 3, F_SETFL, O_APPEND));
	do {
		unsigned long sum = 0;
		char say[1000];
		for (int fd = 3; fd < far + 1; fd++)
			for (int i = 0, len = shown(fd, say); i < len; i++)
				sum = sum * 31 + say[i];
		shown(n - 1, say);
		obs("all %lx, one %s", sum, say);
		shown(far, say);
		obs("far %s, the same %d", say, (int)syscall(SYS_kcmp, getpid(), getpid(), 0, far, n / 2));
		CHECK(getcwd(name, sizeof name));
		obs("in the folder %d", !strcmp(name, ctl_dir));
		CHECK(lseek(n / 2, 1, SEEK_CUR));
	} while (savepoint());
	return 0;
}
