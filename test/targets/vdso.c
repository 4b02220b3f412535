// The kernel's code and data page in the process: same place, still right.
#include "vdsomaps.h"
#include <sched.h>
#include <sys/auxv.h>

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	struct timespec before = {0}, now, sys;
	do {
		maps();
		unsigned char *elf = (void *)getauxval(AT_SYSINFO_EHDR);
		obs("=vdso %p", elf);
		obs("vdso %.3s", elf + 1);
		for (int i = 0; i < 1000; i++) {
			CHECK(clock_gettime(CLOCK_MONOTONIC, &now));
			CHECK(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &sys));
			MUST(now.tv_sec > before.tv_sec || (now.tv_sec == before.tv_sec && now.tv_nsec >= before.tv_nsec));
			MUST(sys.tv_sec > now.tv_sec || (sys.tv_sec == now.tv_sec && sys.tv_nsec >= now.tv_nsec));
			before = sys;
		}
		unsigned cpu, node;
		CHECK(getcpu(&cpu, &node));
		obs("clock goes on, cpu known %d", cpu < 100000);
	} while (savepoint());
	return 0;
}
