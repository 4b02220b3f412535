// Ends with the status or by the signal that argv names.
#include "ctl.h"

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	do
		obs("here");
	while (savepoint());
	if (!strcmp(argv[1], "signal"))
		raise(atoi(argv[2]));
	return atoi(argv[2]);
}
