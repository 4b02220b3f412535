// Timerfds: what is left, what expired unread, deadlines, intervals, clocks.
#include "ctl.h"
#include <poll.h>
#include <sys/timerfd.h>

static int timer(int clock, int flags, int set, long long value, long long interval) {
	int fd = CHECK(timerfd_create(clock, flags));
	struct itimerspec t = {{interval / 1000, interval % 1000 * 1000000}, {value / 1000, value % 1000 * 1000000}};
	if (set & TFD_TIMER_ABSTIME) {
		struct timespec now;
		CHECK(clock_gettime(clock, &now));
		t.it_value.tv_sec += now.tv_sec;
		t.it_value.tv_nsec = 123456789;
	}
	CHECK(timerfd_settime(fd, set, &t, NULL));
	return fd;
}

// info is a line of fdinfo.
static const char *info(int fd, const char *key) {
	static char line[256];
	char path[64];
	snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
	FILE *f = fopen(path, "re");
	MUST(f);
	while (fgets(line, sizeof line, f))
		if (!strncmp(line, key, strlen(key)))
			break;
	fclose(f);
	line[strcspn(line, "\n")] = 0;
	return line;
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	int fd[] = {
		timer(CLOCK_MONOTONIC, TFD_NONBLOCK, 0, 1000000000, 0),
		timer(CLOCK_REALTIME, TFD_CLOEXEC, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, 2000000000, 7000),
		timer(CLOCK_BOOTTIME, 0, TFD_TIMER_ABSTIME, 3000000000, 0),
		timer(CLOCK_MONOTONIC, 0, 0, 0, 0),
		timer(CLOCK_MONOTONIC, TFD_NONBLOCK, 0, 1, 0),         // expires once
		timer(CLOCK_MONOTONIC, TFD_NONBLOCK, 0, 1, 400000000), // goes on
	};
	int often = timer(CLOCK_MONOTONIC, 0, 0, 1, 1);
	for (int i = 4; i < 6; i++)
		poll(&(struct pollfd){fd[i], POLLIN}, 1, -1);
	do {
		for (int i = 0; i < 6; i++) {
			struct itimerspec t;
			CHECK(timerfd_gettime(fd[i], &t));
			obs("%d flags %o left %d interval %ld, %s", i, fcntl(fd[i], F_GETFL), (int)((t.it_value.tv_sec + 999) / 1000), t.it_interval.tv_sec, info(fd[i], "settime"));
			obs("%d %s", i, info(fd[i], "clockid"));
			obs("%d %s", i, info(fd[i], "ticks"));
		}
		uint64_t n;
		CHECK(read(often, &n, 8));
		MUST(n > 0);
	} while (savepoint());
	uint64_t n;
	for (int i = 4; i < 6; i++) {
		CHECK(read(fd[i], &n, 8));
		obs("%d expired %d", i, (int)n);
		MUST(read(fd[i], &n, 8) < 0 && errno == EAGAIN);
	}
	savepoint();
	return 0;
}
