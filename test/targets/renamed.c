// Open files whose name is another one by now: renamed, moved to another directory, in a
// directory that was renamed, put in another file's place, exchanged with another one;
// and whose first name is gone, but that has a second one where the kernel says it is.
#include "ctl.h"
#include <linux/fs.h>
#include <sys/syscall.h>

enum { SAME, MOVED, INSIDE, OVER, SWAP, BACK, DIR_, N };

static int make(const char *path) {
	int fd = CHECK(open(path, O_RDWR | O_CREAT | O_EXCL, 0640));
	CHECK(dprintf(fd, "first it was %s, and it is what it was", path));
	CHECK(lseek(fd, 5, SEEK_SET));
	return fd;
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	int fd[N];
	CHECK(mkdir("one", 0755));
	CHECK(mkdir("two", 0755));
	fd[SAME] = make("one/same");
	fd[MOVED] = make("one/moved");
	fd[INSIDE] = make("one/inside");
	fd[OVER] = make("one/over");
	fd[SWAP] = make("swap");
	fd[BACK] = make("back");
	fd[DIR_] = CHECK(open("one", O_RDONLY | O_DIRECTORY));
	close(make("two/victim"));
	close(make("other"));
	CHECK(rename("one/same", "one/renamed \xc3\xa4 (deleted)"));
	CHECK(rename("one/moved", "two/moved"));
	CHECK(rename("one/over", "two/victim"));
	CHECK(syscall(SYS_renameat2, AT_FDCWD, "swap", AT_FDCWD, "other", RENAME_EXCHANGE));
	CHECK(rename("back", "forth"));
	CHECK(rename("forth", "back"));
	CHECK(rename("one", "three"));
	do {
		for (int i = 0; i < N; i++) {
			char path[64], link[400] = "", text[20] = "";
			struct stat st;
			snprintf(path, sizeof path, "/proc/self/fd/%d", fd[i]);
			CHECK(readlink(path, link, sizeof link - 1));
			CHECK(fstat(fd[i], &st));
			if (i != DIR_)
				CHECK(pread(fd[i], text, 16, 13));
			obs("%d %s %o at %ld: %s", i, link + strlen(ctl_dir), st.st_mode, (long)lseek(fd[i], 0, SEEK_CUR), text);
		}
		char c;
		CHECK(read(fd[MOVED], &c, 1));
		CHECK(write(fd[SAME], "x", 1)); // what is written goes to the file of that name
		struct stat a, b;
		CHECK(stat("three/renamed \xc3\xa4 (deleted)", &a));
		CHECK(fstat(fd[SAME], &b));
		obs("read %c, the same file %d", c, a.st_ino == b.st_ino);
	} while (savepoint());
	return 0;
}
