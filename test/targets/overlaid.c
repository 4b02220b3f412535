// Files of a lower layer of overlayfs whose names are gone, but that tell the
// links they have there: deleted, replaced, mapped, in a directory that is gone, that
// directory, and the program itself. It mounts one on /var/spool, and runs itself there.
#include "ctl.h"
#include <sys/mount.h>
#include <sys/sendfile.h>

enum { GONE, REPLACED, WITHIN, DIR_, N };

static char *map(int fd, int flags) {
	char *p = mmap(NULL, 4096, PROT_READ, flags, fd, 0);
	MUST(p != MAP_FAILED);
	return p;
}

static void make(const char *name, const char *text) {
	int fd = CHECK(open(name, O_WRONLY | O_CREAT | O_EXCL, 0640));
	CHECK(write(fd, text, strlen(text)));
	close(fd);
}

static void move_there(char **argv) {
	char options[1000];
	CHECK(chdir(ctl_dir));
	CHECK(mkdir("lower", 0755)), CHECK(mkdir("upper", 0755)), CHECK(mkdir("work", 0755)), CHECK(mkdir("lower/dir", 0750));
	make("lower/gone", "it is gone"), make("lower/replaced", "the old one"), make("lower/new", "the new one");
	make("lower/mapped", "only mapped"), make("lower/dir/within", "in a directory that is gone");
	int from = CHECK(open("/proc/self/exe", O_RDONLY)), to = CHECK(open("lower/overlaid", O_WRONLY | O_CREAT, 0755));
	while (CHECK(sendfile(to, from, NULL, 1 << 20)))
		;
	close(from), close(to);
	snprintf(options, sizeof options, "lowerdir=%s/lower,upperdir=%s/upper,workdir=%s/work", ctl_dir, ctl_dir, ctl_dir);
	CHECK(mount("overlay", "/var/spool", "overlay", 0, options));
	CHECK(execv("/var/spool/overlaid", argv));
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	char self[400] = "";
	CHECK(readlink("/proc/self/exe", self, sizeof self - 1));
	if (strcmp(self, "/var/spool/overlaid"))
		move_there(argv);
	int fd[N], dir = CHECK(open("/var/spool", O_PATH | O_DIRECTORY | O_CLOEXEC));
	fd[GONE] = CHECK(openat(dir, "gone", O_RDONLY));
	fd[REPLACED] = CHECK(openat(dir, "replaced", O_RDONLY));
	fd[WITHIN] = CHECK(openat(dir, "dir/within", O_RDONLY));
	fd[DIR_] = CHECK(openat(dir, "dir", O_RDONLY | O_DIRECTORY));
	char *gone = map(fd[GONE], MAP_PRIVATE), *within = map(fd[WITHIN], MAP_SHARED);
	int closed = CHECK(openat(dir, "mapped", O_RDONLY));
	char *mapped = map(closed, MAP_PRIVATE);
	close(closed);
	CHECK(unlinkat(dir, "gone", 0));
	CHECK(renameat(dir, "new", dir, "replaced"));
	CHECK(unlinkat(dir, "mapped", 0));
	CHECK(unlinkat(dir, "dir/within", 0));
	CHECK(unlinkat(dir, "dir", AT_REMOVEDIR));
	CHECK(unlinkat(dir, "overlaid", 0));
	struct stat st;
	CHECK(fstat(fd[GONE], &st));
	MUST(st.st_nlink == 1); // or this is no test
	CHECK(lseek(fd[GONE], 2, SEEK_SET));
	do {
		for (int i = 0; i < N; i++) {
			char path[64], link[400] = "", text[64] = "";
			snprintf(path, sizeof path, "/proc/self/fd/%d", fd[i]);
			CHECK(readlink(path, link, sizeof link - 1));
			CHECK(fstat(fd[i], &st));
			if (i != DIR_)
				CHECK(pread(fd[i], text, sizeof text - 1, 0));
			obs("%d %s mode %o at %ld: %s", i, i == REPLACED ? "" : link, st.st_mode, (long)lseek(fd[i], 0, SEEK_CUR), text);
		}
		obs("mapped: %s, %s, %s", gone, within, mapped);
		char exe[400] = "", now[64] = "";
		CHECK(readlink("/proc/self/exe", exe, sizeof exe - 1));
		int other = CHECK(openat(dir, "replaced", O_RDONLY));
		CHECK(read(other, now, sizeof now - 1));
		close(other);
		obs("program %s, in the other's place: %s; %d %d", exe, now, faccessat(dir, "gone", F_OK, 0), faccessat(dir, "dir", F_OK, 0));
	} while (savepoint());
	return 0;
}
