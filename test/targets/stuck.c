// Looks for a file, which lasts as long as whoever has it does not answer.
#include "ctl.h"

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	char at[400];
	ctl_path(at, "at", NULL);
	mknod(at, S_IFREG | 0666, 0);
	access(argv[1], F_OK);
	return 0;
}
