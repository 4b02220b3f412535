// The mappings of the kernel in the process, for targets that look at them.
#include "ctl.h"

static void maps(void) {
	char line[512];
	FILE *f = fopen("/proc/self/maps", "re");
	MUST(f);
	while (fgets(line, sizeof line, f))
		if (strstr(line, "[v"))
			obs("=%s", strtok(line, "\n"));
	fclose(f);
}
