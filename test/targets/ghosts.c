// Files that were deleted while they are open: with contents, holes, several
// names, in deleted directories, mapped, replaced, and ones that never had a
// name.
#include "ctl.h"
#include <limits.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

static char dir[300];

static char *in(const char *name) {
	static char path[8][400];
	static int n;
	snprintf(path[n %= 8], 400, "%s/%s", dir, name);
	return path[n++];
}

static int make(const char *name, int flags, const char *text) {
	int fd = CHECK(open(in(name), flags | O_CREAT, 0640));
	CHECK(write(fd, text, strlen(text)));
	return fd;
}

static void see(const char *what, int fd) {
	char link[PATH_MAX] = "", self[64], text[64] = "";
	struct stat st;
	snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
	CHECK(readlink(self, link, sizeof link - 1));
	CHECK(fstat(fd, &st));
	if (S_ISREG(st.st_mode))
		CHECK(pread(fd, text, sizeof text - 1, 0));
	char *name = strncmp(link, dir, strlen(dir)) ? link : link + strlen(dir);
	if (strstr(name, "#"))
		name = "#";
	obs("%s: %s mode %o links %d size %lld uid %d gid %d flags %o at %lld: %s", what, name, st.st_mode, (int)st.st_nlink, (long long)(S_ISDIR(st.st_mode) ? 0 : st.st_size),
	    st.st_uid, st.st_gid, fcntl(fd, F_GETFL) & ~O_TMPFILE, (long long)lseek(fd, 0, SEEK_CUR), text);
	if (*what == 'p')
		obs("=%s modified %lld.%06ld", what, (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec / 1000);
}

static int flags_of(int fd) {
	int flags = 0;
	CHECK(ioctl(fd, FS_IOC_GETFLAGS, &flags));
	return flags;
}

static void chattr(int fd, int flags) {
	flags |= flags_of(fd);
	CHECK(ioctl(fd, FS_IOC_SETFLAGS, &flags));
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	int more = !strcmp(argv[1], "more"); // what CRIU can't
	snprintf(dir, sizeof dir, "%s/d", argv[argc - 1]);
	CHECK(mkdir(dir, 0755)), CHECK(mkdir(in("gone"), 0711)), CHECK(mkdir(in("gone/deep"), 0700));
	int plain = make("plain", O_RDWR, "plain text");
	int again = CHECK(open(in("plain"), O_RDONLY | O_CLOEXEC));
	CHECK(lseek(again, 3, SEEK_SET));
	CHECK(fchown(plain, 65534, 100)), CHECK(fchmod(plain, 02751));
	CHECK(unlink(in("plain")));
	int one = make("one", O_RDWR | O_APPEND, "two names");
	CHECK(link(in("one"), in("two")));
	int two = CHECK(open(in("two"), O_RDONLY));
	CHECK(unlink(in("one"))), CHECK(unlink(in("two")));
	int deep = make("gone/deep/file", O_RDWR, "deep");
	int handle = CHECK(open(in("gone"), O_RDONLY | O_DIRECTORY));
	CHECK(unlink(in("gone/deep/file"))), CHECK(rmdir(in("gone/deep")));
	int cwd = CHECK(chdir(in("gone")));
	CHECK(rmdir(in("gone")));
	int hole = make("hole", O_RDWR, "begin");
	CHECK(pwrite(hole, "end", 3, 1 << 30)), CHECK(ftruncate(hole, (1 << 30) + 100000));
	CHECK(unlink(in("hole")));
	int old = make("name", O_RDWR, "old");
	CHECK(unlink(in("name")));
	close(make("name", O_RDWR, "new"));
	int tmp = more ? CHECK(open(dir, O_TMPFILE | O_RDWR, 0604)) : make("tmp", O_RDWR, "");
	CHECK(write(tmp, "never had a name", 16));
	if (more) // by chattr(1)
		chattr(plain, FS_NODUMP_FL), chattr(tmp, FS_NOATIME_FL);
	int map = make("map", O_RDWR, "mapped");
	CHECK(ftruncate(map, 8192));
	char *m = CHECK(mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, map, 0));
	char *priv = CHECK(mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE, map, 0));
	CHECK(unlink(in("map")));
	CHECK(symlink("target", in("link")));
	int link_ = CHECK(open(in("link"), O_PATH | O_NOFOLLOW));
	CHECK(unlink(in("link")));
	if (!more)
		close(link_);
	(void)cwd;
	do {
		see("plain", plain), see("again", again), see("one", one), see("two", two), see("deep", deep);
		see("handle", handle), see("hole", hole);
		if (more)
			see("tmp", tmp), obs("flags %x %x, none %x", flags_of(plain), flags_of(tmp), flags_of(one));
		struct stat st;
		char text[100] = "", at[PATH_MAX] = "";
		CHECK(fstat(hole, &st));
		MUST(st.st_blocks < 2048);
		CHECK(pread(hole, text, 4, 1 << 30));
		obs("hole ends with %s", text);
		CHECK(pread(old, text, 4, 0));
		obs("old is %.3s", text);
		CHECK(readlink("/proc/self/cwd", at, sizeof at));
		obs("cwd %s", at + strlen(dir));
		memset(text, 0, sizeof text);
		if (more)
			CHECK(readlinkat(link_, "", text, 99));
		obs("link to %s", text);
		obs("mapped %s and %s", m, priv);
		CHECK(pwrite(map, "shared", 6, 100)), obs("seen %.6s", m + 100);
		if (!ctl_gen)
			strcpy(priv, "my own");
		CHECK(write(one, ".", 1));
		obs("two sees %lld", (long long)lseek(two, 0, SEEK_END));
	} while (savepoint());
	char self[64];
	snprintf(self, sizeof self, "/proc/self/fd/%d", tmp);
	if (more)
		CHECK(linkat(AT_FDCWD, self, AT_FDCWD, in("named"), AT_SYMLINK_FOLLOW));
	int left = 0;
	DIR *d = opendir(dir);
	for (struct dirent *e; (e = readdir(d));)
		left++;
	obs("names left: %d", left); // name, named, . and ..
	savepoint();
	return 0;
}
