// Private mappings of a file: unchanged and changed pages, an offset, a
// read-only one, one behind the end of the file's last page.
#include "ctl.h"

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	int fd = CHECK(open("data", O_RDWR | O_CREAT | O_CLOEXEC, 0600));
	for (int i = 0; i < 40960 + 100; i++)
		CHECK(write(fd, &(char){i * 7}, 1));
	char *rw = CHECK(mmap(NULL, 45056, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0));
	char *off = CHECK(mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 12288));
	char *ro = CHECK(mmap(NULL, 16384, PROT_READ, MAP_PRIVATE, fd, 4096));
	char *was = CHECK(mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0));
	close(fd);
	for (int page = 0; page < 11; page += 3)
		memset(rw + page * 4096 + 5, page, 100);
	rw[40960 + 2000] = 'x'; // behind the end of the file, in its last page
	off[4096] = 1;
	memset(was, 0, 4096); // a changed page of zeros is not the file's
	CHECK(mprotect(was, 8192, PROT_READ));
	int round = 0;
	do {
		obs("rw %llx", (unsigned long long)fnv(rw, 45056));
		obs("off %llx ro %llx was %llx", (unsigned long long)fnv(off, 8192), (unsigned long long)fnv(ro, 16384),
		    (unsigned long long)fnv(was, 8192));
		obs("=at %p %p %p %p", rw, off, ro, was);
		rw[++round * 4096] ^= 0x55;
	} while (savepoint());
	return 0;
}
