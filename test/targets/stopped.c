// Tasks that job control has stopped stay so, and their parent is told by what.
#include "ctl.h"

static int stopped_by(pid_t pid) {
	siginfo_t si = {0};
	CHECK(waitid(P_PID, pid, &si, WSTOPPED | WNOWAIT));
	return si.si_status;
}

static pid_t begin(int sig) {
	pid_t pid = CHECK(fork());
	if (pid == 0) {
		CHECK(setpgid(0, 0));
		CHECK(prctl(PR_SET_NAME, "meant-to-stop"));
		raise(sig);
		_exit(sig);
	}
	MUST(stopped_by(pid) == sig);
	return pid;
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	static const int sigs[] = {SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU};
	pid_t pids[4];
	for (int i = 0; i < 4; i++)
		pids[i] = begin(sigs[i]);
	do {
		for (int i = 0; i < 4; i++)
			obs("stopped by %d", stopped_by(pids[i]));
	} while (savepoint());
	for (int i = 0; i < 4; i++) {
		int st;
		CHECK(kill(pids[i], SIGCONT));
		CHECK(waitpid(pids[i], &st, 0));
		obs("ended with %#x", st);
	}
	savepoint();
	return 0;
}
