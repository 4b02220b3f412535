// Regular files and directories: flags, offset, O_APPEND, close-on-exec; the
// null, zero, full and urandom devices; O_PATH, O_DIRECT.
#include "ctl.h"

static struct { const char *path; int flags; } how[] = {
	{"file", O_RDWR}, {"file", O_RDONLY | O_CLOEXEC}, {"file", O_WRONLY | O_APPEND}, {"file", O_RDWR | O_NONBLOCK | O_NOATIME},
	{"file", O_RDWR | O_DSYNC}, {"file", O_RDWR | O_SYNC}, {".", O_RDONLY}, {"sub", O_RDONLY | O_CLOEXEC},
	{"file", O_PATH}, {"sub", O_PATH}, {"link", O_PATH | O_NOFOLLOW}, {"/dev/null", O_RDWR},
	{"/dev/zero", O_RDONLY}, {"/dev/urandom", O_RDONLY | O_NONBLOCK}, {"/dev/full", O_WRONLY}, {"sub/a b\n\\040c", O_RDWR},
	{"file", O_RDWR | O_DIRECT},
	{".", O_RDONLY | O_DIRECTORY}, {"sub", O_PATH | O_DIRECTORY}};
#define N (int)(sizeof how / sizeof *how)

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	int fd[N], all = atoi(argv[1]); // how many of them
	MUST(all <= N);
	CHECK(mkdir("sub", 0755));
	CHECK(symlink("file", "link"));
	close(CHECK(creat("sub/a b\n\\040c", 0600)));
	int f = CHECK(creat("file", 0644));
	for (int i = 0; i < 1000; i++)
		dprintf(f, "%d,", i);
	close(f);
	for (int i = 0; i < all; i++)
		if ((fd[i] = open(how[i].path, how[i].flags)) < 0) // tmpfs before Linux 6.6
			fd[i] = CHECK(open(how[i].path, how[i].flags & ~O_DIRECT));
	lseek(fd[0], 1000000, SEEK_SET); // behind the end
	lseek(fd[1], 321, SEEK_SET);
	CHECK(dup2(fd[1], 700)); // far away
	CHECK(fcntl(700, F_SETFD, 0));
	do {
		for (int i = 0; i < all; i++) {
			char path[64], link[400] = "";
			snprintf(path, sizeof path, "/proc/self/fd/%d", fd[i]);
			CHECK(readlink(path, link, sizeof link - 1));
			obs("%d %s", i, strncmp(link, ctl_dir, strlen(ctl_dir)) ? link : link + strlen(ctl_dir));
			obs("%d flags %o fd %d at %ld", i, fcntl(fd[i], F_GETFL), fcntl(fd[i], F_GETFD), i == 13 ? 0L : (long)lseek(fd[i], 0, SEEK_CUR));
		}
		char buf[8] = "", c;
		CHECK(read(700, buf, 4));
		obs("shares offset %s", buf);
		CHECK(write(fd[2], "app", 3));
		struct stat st;
		CHECK(stat("file", &st));
		obs("appended %ld", (long)st.st_size);
		if (all > 8) {
			obs("zero %ld urandom %ld full %ld", (long)read(fd[12], &c, 1), (long)read(fd[13], &c, 1), (long)write(fd[14], "", 1));
			CHECK(write(fd[11], "", 1));
		}
	} while (savepoint());
	return 0;
}
