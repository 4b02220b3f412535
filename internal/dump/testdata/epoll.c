// Waits in epoll_wait(2) without a timeout for its input, and says how that ended: 'o' for
// well, 'e' for EINTR.
#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

int main(void)
{
	struct epoll_event e = {EPOLLIN, {0}};
	int ep = epoll_create1(0);
	if (ep < 0 || epoll_ctl(ep, EPOLL_CTL_ADD, 0, &e))
		return 1;
	int n = epoll_wait(ep, &e, 1, -1);
	char c = n == 1 ? 'o' : errno == EINTR ? 'e' : '?';
	return write(1, &c, 1) != 1;
}
