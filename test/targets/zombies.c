// Children that ended and that nobody has waited for yet.
#include "ctl.h"

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	pid_t kids[4];
	for (int i = 0; i < 4; i++) {
		kids[i] = CHECK(fork());
		if (kids[i])
			continue;
		prctl(PR_SET_DUMPABLE, 0);
		if (i == 2)
			raise(SIGKILL);
		if (i == 3)
			raise(SIGSEGV);
		_exit(i * 7);
	}
	siginfo_t si;
	for (int i = 0; i < 4; i++)
		CHECK(waitid(P_PID, kids[i], &si, WEXITED | WNOWAIT));
	do
		for (int i = 0; i < 4; i++) {
			CHECK(waitid(P_PID, kids[i], &si, WEXITED | WNOWAIT));
			obs("=pid %d sid %d pgid %d", si.si_pid, getsid(si.si_pid), getpgid(si.si_pid));
			obs("code %d status %d", si.si_code, si.si_status);
		}
	while (savepoint());
	for (int i = 0, st; i < 4; i++)
		CHECK(waitpid(kids[i], &st, 0));
	return 0;
}
