// Descriptors of a memfd: contents, size, holes, offset, seals, name, mode; also by O_PATH.
#include "ctl.h"

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	int fd = CHECK(memfd_create("plain", MFD_ALLOW_SEALING));
	int none = CHECK(memfd_create("unsealable", MFD_CLOEXEC));
	CHECK(ftruncate(fd, 1 << 20));
	CHECK(pwrite(fd, "head", 4, 0));
	CHECK(pwrite(fd, "far", 3, 700000));
	CHECK(lseek(fd, 1234, SEEK_SET));
	CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK));
	CHECK(write(none, "tail", 4));
	CHECK(fchmod(none, 0640));
	char path[64];
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	int ro = CHECK(open(path, O_RDONLY)); // another description of the same memory
	int fds[] = {fd, none, ro}, paths[2], more = strcmp(argv[1], "more") == 0;
	if (more) {
		paths[0] = CHECK(open(path, O_PATH));
		int closed = CHECK(memfd_create("closed", 0)); // nobody else has it
		CHECK(write(closed, "only", 4));
		snprintf(path, sizeof path, "/proc/self/fd/%d", closed);
		paths[1] = CHECK(open(path, O_PATH | O_CLOEXEC));
		close(closed);
	}
	do {
		for (int i = 0; more && i < 2; i++) {
			struct stat st, its;
			char link[128] = "", buf[8] = "";
			CHECK(fstat(paths[i], &st));
			CHECK(fstat(fd, &its));
			snprintf(path, sizeof path, "/proc/self/fd/%d", paths[i]);
			CHECK(readlink(path, link, sizeof link - 1));
			int again = CHECK(open(path, O_RDWR));
			CHECK(pread(again, buf, 4, i ? 0 : 700000));
			close(again);
			obs("path %d %s of the first %d holds %s flags %x %x", i, link, st.st_ino == its.st_ino, buf, fcntl(paths[i], F_GETFL), fcntl(paths[i], F_GETFD));
		}
		for (int i = 0; i < 3; i++) {
			struct stat st;
			char link[128] = "", buf[8] = "";
			CHECK(fstat(fds[i], &st));
			snprintf(path, sizeof path, "/proc/self/fd/%d", fds[i]);
			CHECK(readlink(path, link, sizeof link - 1));
			CHECK(pread(fds[i], buf, 4, i == 1 ? 0 : 700000));
			obs("%d %s size %ld mode %o offset %ld seals %x flags %x %x", i, link, (long)st.st_size, st.st_mode,
			    (long)lseek(fds[i], 0, SEEK_CUR), fcntl(fds[i], F_GET_SEALS), fcntl(fds[i], F_GETFL) & ~O_LARGEFILE, fcntl(fds[i], F_GETFD));
			obs("%d holds %s", i, buf);
		}
	} while (savepoint());
	CHECK(pwrite(fd, "new", 3, 0));
	char buf[4] = "";
	CHECK(pread(ro, buf, 3, 0));
	obs("through the other %s", buf);
	savepoint();
	return 0;
}
