// Copies a line from its standard input to its standard output at every save
// point.
#include "ctl.h"

int main(int argc, char **argv) {
	char line[100];
	ctl_init(argc, argv);
	do {
		int n = CHECK(read(0, line, sizeof line));
		obs("%.*s", n, line);
		CHECK(write(1, line, n));
	} while (savepoint());
	return 0;
}
