// A socket of each family and type that the kernel has, unconnected, with file flags,
// an owner and a signal; of vsock, also bound ones and listeners, with options.
#include "ctl.h"
#include <sys/socket.h>
#include <linux/vm_sockets.h>
#include <poll.h>

#ifndef AF_XDP
#define AF_XDP 44
#endif

static const int families[] = {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_VSOCK, AF_XDP};

static struct one {
	int fd, family, type, protocol;
} all[64];
static int count;

static int number(int fd, int opt) {
	int v = -1;
	socklen_t n = sizeof v;
	CHECK(getsockopt(fd, SOL_SOCKET, opt, &v, &n));
	return v;
}

// add makes a socket of the first protocol that there is.
static void add(int family, int type) {
	for (int protocol = 0; protocol < 4; protocol++) {
		int fd = socket(family, type, protocol);
		if (fd < 0)
			continue;
		all[count++] = (struct one){fd, family, type, protocol};
		return;
	}
}

// own gives a descriptor flags, who is told of it, and by which signal. None is
// ever sent: nothing comes.
static void own(int i, int fd) {
	struct f_owner_ex who = {i % 2 ? F_OWNER_PID : F_OWNER_TID, getpid()};
	CHECK(fcntl(fd, F_SETFD, i % 3 ? 0 : FD_CLOEXEC));
	CHECK(fcntl(fd, F_SETSIG, SIGRTMIN + i % 20));
	CHECK(fcntl(fd, F_SETOWN_EX, &who));
	CHECK(fcntl(fd, F_SETFL, (i % 2 ? O_NONBLOCK : 0) | O_ASYNC));
}

static void tell(const struct one *o) {
	struct f_owner_ex who = {-1, -1};
	CHECK(fcntl(o->fd, F_GETOWN_EX, &who));
	obs("family %d type %d protocol %d: %d %d %d, flags %x %d, signal %d, owner %d %d", o->family, o->type, o->protocol, number(o->fd, SO_DOMAIN), number(o->fd, SO_TYPE),
	    number(o->fd, SO_PROTOCOL), fcntl(o->fd, F_GETFL), fcntl(o->fd, F_GETFD), fcntl(o->fd, F_GETSIG), who.type, who.pid == getpid());
}

// vsock makes sockets with addresses.
static void vsock(int *at, int *listens) {
	struct sockaddr_vm a = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = 70001};
	*at = *listens = -1;
	if ((*at = socket(AF_VSOCK, SOCK_STREAM, 0)) < 0)
		return;
	uint64_t size = 300000, most = 400000, least = 20000;
	CHECK(setsockopt(*at, AF_VSOCK, SO_VM_SOCKETS_BUFFER_MAX_SIZE, &most, sizeof most));
	CHECK(setsockopt(*at, AF_VSOCK, SO_VM_SOCKETS_BUFFER_MIN_SIZE, &least, sizeof least));
	CHECK(setsockopt(*at, AF_VSOCK, SO_VM_SOCKETS_BUFFER_SIZE, &size, sizeof size));
	struct timeval t = {7, 500000};
	CHECK(setsockopt(*at, AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT, &t, sizeof t));
	CHECK(bind(*at, (void *)&a, sizeof a));
	*listens = CHECK(socket(AF_VSOCK, SOCK_SEQPACKET, 0));
	a.svm_port++;
	CHECK(bind(*listens, (void *)&a, sizeof a));
	CHECK(listen(*listens, 7));
	CHECK(setsockopt(*listens, SOL_SOCKET, SO_KEEPALIVE, &(int){1}, sizeof(int)));
	setsockopt(*at, SOL_SOCKET, SO_ZEROCOPY, &(int){1}, sizeof(int)); // kernels before 6.7 don't have it there
}

static void tell_vsock(const char *name, int fd) {
	if (fd < 0)
		return;
	struct sockaddr_vm a;
	socklen_t n = sizeof a;
	CHECK(getsockname(fd, (void *)&a, &n));
	obs("%s: at %u:%u, listens %d, keepalive %d, zerocopy %d", name, a.svm_cid, a.svm_port, number(fd, SO_ACCEPTCONN), number(fd, SO_KEEPALIVE), number(fd, SO_ZEROCOPY));
	for (int i = 0; i < 3; i++) {
		uint64_t v = 0;
		n = sizeof v;
		CHECK(getsockopt(fd, AF_VSOCK, i, &v, &n));
		obs("%s: option %d is %llu", name, i, (unsigned long long)v);
	}
	struct timeval t;
	n = sizeof t;
	CHECK(getsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT, &t, &n));
	obs("%s: timeout %ld.%06ld", name, (long)t.tv_sec, (long)t.tv_usec);
	a.svm_family = AF_VSOCK;
	int again = CHECK(socket(AF_VSOCK, number(fd, SO_TYPE), 0)), r = bind(again, (void *)&a, sizeof a);
	obs("%s: bind again %d %d", name, r, errno);
	close(again);
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	int at, listens;
	vsock(&at, &listens);
	for (unsigned i = 0; i < sizeof families / sizeof *families; i++)
		for (int type = SOCK_STREAM; type <= SOCK_SEQPACKET; type++)
			if (families[i] == AF_VSOCK ? type != SOCK_DGRAM : type != SOCK_SEQPACKET || families[i] == AF_UNIX)
				add(families[i], type);
	for (int i = 0; i < count; i++)
		own(i, all[i].fd);
	do {
		for (int i = 0; i < count; i++)
			tell(&all[i]);
		tell_vsock("vsock", at), tell_vsock("listener", listens);
	} while (savepoint());
	return 0;
}
