// A process that is stopped in connect(2) when its connection is made: it hears of that once it
// goes on, not of a socket that is connected already (EISCONN).
#include "ctl.h"
#include <arpa/inet.h>
#include <sys/socket.h>

static int full;
static struct sockaddr_in at = {AF_INET};

static void call(void) {
	CHECK(prctl(PR_SET_NAME, "meant-to-stop"));
	int fd = CHECK(socket(AF_INET, SOCK_STREAM, 0));
	_exit(connect(fd, (void *)&at, sizeof at) ? errno : 0);
}

static char state(pid_t pid) {
	char path[64], text[512];
	snprintf(path, sizeof path, "/proc/%d/stat", pid);
	int fd = CHECK(open(path, O_RDONLY | O_CLOEXEC));
	text[CHECK(read(fd, text, sizeof text - 1))] = 0;
	close(fd);
	return strrchr(text, ')')[2];
}

static void await_state(pid_t pid, char which) {
	while (state(pid) != which)
		usleep(1000);
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	full = CHECK(socket(AF_INET, SOCK_STREAM, 0));
	socklen_t n = sizeof at;
	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	CHECK(bind(full, (void *)&at, sizeof at));
	CHECK(listen(full, 0));
	CHECK(getsockname(full, (void *)&at, &n));
	CHECK(connect(CHECK(socket(AF_INET, SOCK_STREAM, 0)), (void *)&at, sizeof at)); // there is room for one
	pid_t pid = CHECK(fork());
	if (!pid)
		call();
	await_state(pid, 'S');
	CHECK(kill(pid, SIGSTOP));
	await_state(pid, 'T');
	CHECK(accept(full, NULL, NULL)); // there is room for the next one
	CHECK(accept(full, NULL, NULL));
	do
		obs("it is connected");
	while (savepoint());
	int status;
	CHECK(kill(pid, SIGCONT));
	CHECK(waitpid(pid, &status, 0));
	obs("connect: %s", status ? strerror(WEXITSTATUS(status)) : "ok");
	savepoint();
	return 0;
}
