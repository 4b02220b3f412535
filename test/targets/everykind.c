// A descriptor of every kind, in a message (SCM_RIGHTS) at a stream and at a datagram
// socket, and nowhere else: a file, pipe or socket that comes back only if who is in a
// queue does. Each is looked at and used when it was received.
#include "unix.h"
#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/netlink.h>
#include <linux/vm_sockets.h>
#include <mqueue.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

static int carrier;  // which of the two, for names
static int pipes[2]; // that epoll files watch
static char text[300];

static const char *path(const char *name) {
	static char p[64];
	sprintf(p, "%s%d", name, carrier);
	return p;
}

static const char *got(int fd) {
	memset(text, 0, sizeof text);
	ssize_t n = read(fd, text, sizeof text - 1);
	return n < 0 ? strerror(errno) : text;
}

static int pair_of(int *fd, int r) { return CHECK(r), fd[0] < 0 ? 0 : 2; }

static int make_file(int *fd) {
	fd[0] = CHECK(open(path("file"), O_RDWR | O_CREAT | O_TRUNC | O_APPEND, 0640));
	CHECK(write(fd[0], "contents", 8)), CHECK(lseek(fd[0], 3, SEEK_SET));
	return 1;
}
static int make_deleted(int *fd) {
	fd[0] = CHECK(open("ghost", O_RDWR | O_CREAT, 0600));
	CHECK(write(fd[0], "of a ghost", 10)), CHECK(lseek(fd[0], 0, SEEK_SET)), CHECK(unlink("ghost"));
	return 1;
}
static int make_directory(int *fd) { return fd[0] = CHECK(open("watched", O_RDONLY | O_DIRECTORY)), 1; }
static int make_path(int *fd) { return fd[0] = CHECK(open("watched", O_PATH)), 1; }
static int make_device(int *fd) { return fd[0] = CHECK(open("/dev/zero", O_RDWR)), 1; }
static int make_proc(int *fd) { return fd[0] = CHECK(open("/proc/self/comm", O_RDONLY)), 1; }
static void use_file(int *fd) {
	CHECK(write(fd[0], "more", 4)), CHECK(lseek(fd[0], 0, SEEK_SET));
	obs("then %s", got(fd[0]));
}
static void use_read(int *fd) { obs("read %.20s", got(fd[0])); }

static int make_pipe(int *fd) {
	int n = pair_of(fd, pipe2(fd, O_NONBLOCK));
	CHECK(write(fd[1], "in the pipe", 11));
	return n;
}
static int make_fifo(int *fd) {
	CHECK(mkfifo(path("fifo"), 0600));
	fd[0] = CHECK(open(path("fifo"), O_RDONLY | O_NONBLOCK)), fd[1] = CHECK(open(path("fifo"), O_WRONLY));
	CHECK(write(fd[1], "in the fifo", 11));
	return 2;
}
static int make_stream(int *fd) {
	int n = pair_of(fd, socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd));
	CHECK(write(fd[1], "in the stream", 13));
	return n;
}
static int make_packets(int *fd) {
	int n = pair_of(fd, socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, fd));
	CHECK(write(fd[1], "in a packet", 11));
	return n;
}
static int make_datagrams(int *fd) {
	int n = pair_of(fd, socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, fd));
	CHECK(write(fd[1], "in a datagram", 13));
	return n;
}
static int make_pty(int *fd) {
	fd[0] = CHECK(posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK));
	CHECK(grantpt(fd[0])), CHECK(unlockpt(fd[0]));
	fd[1] = CHECK(open(ptsname(fd[0]), O_RDWR | O_NOCTTY));
	CHECK(write(fd[1], "of the slave", 12));
	return 2;
}
// use_pair reads from one end what waits, and what the other one writes now.
static void use_pair(int *fd) {
	obs("waits: %s", got(fd[0]));
	CHECK(write(fd[1], "now", 3));
	obs("comes: %s", got(fd[0])), obs("then: %s", got(fd[0]));
	close(fd[1]);
	obs("in the end: %s", got(fd[0]));
}

static int make_eventfd(int *fd) { return fd[0] = CHECK(eventfd(7, EFD_SEMAPHORE)), 1; }
static void use_counter(int *fd) {
	uint64_t n = 0;
	ssize_t r = read(fd[0], &n, sizeof n);
	obs("%zd, counted %llu", r, (unsigned long long)n);
}
static int make_timerfd(int *fd) {
	fd[0] = CHECK(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK));
	CHECK(timerfd_settime(fd[0], 0, &(struct itimerspec){{77, 0}, {5000, 0}}, NULL));
	return 1;
}
static void use_timerfd(int *fd) {
	struct itimerspec t;
	CHECK(timerfd_gettime(fd[0], &t));
	obs("every %lds, soon %d", t.it_interval.tv_sec, t.it_value.tv_sec > 4000 && t.it_value.tv_sec <= 5000);
	use_counter(fd);
}
static int make_signalfd(int *fd) {
	sigset_t set;
	sigemptyset(&set), sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return fd[0] = CHECK(signalfd(-1, &set, SFD_NONBLOCK)), 1;
}
static void use_signalfd(int *fd) {
	struct signalfd_siginfo i = {0};
	CHECK(raise(SIGUSR1)), CHECK(read(fd[0], &i, sizeof i));
	obs("signal %d", i.ssi_signo);
}
static int make_epoll(int *fd) {
	fd[0] = CHECK(epoll_create1(0));
	CHECK(epoll_ctl(fd[0], EPOLL_CTL_ADD, pipes[0], &(struct epoll_event){EPOLLIN, {.u64 = 42}}));
	return 1;
}
static void use_epoll(int *fd) {
	struct epoll_event e = {0};
	CHECK(write(pipes[1], "!", 1));
	int n = CHECK(epoll_wait(fd[0], &e, 1, 0));
	obs("ready %d: %llu, %s", n, (unsigned long long)e.data.u64, got(pipes[0]));
}
static int make_inotify(int *fd) {
	fd[0] = CHECK(inotify_init1(IN_NONBLOCK));
	CHECK(inotify_add_watch(fd[0], "watched", IN_CREATE | IN_DELETE));
	return 1;
}
static int make_fanotify(int *fd) {
	fd[0] = CHECK(fanotify_init(FAN_CLASS_NOTIF | FAN_NONBLOCK, O_RDONLY | O_CLOEXEC));
	CHECK(fanotify_mark(fd[0], FAN_MARK_ADD, FAN_CLOSE_WRITE | FAN_EVENT_ON_CHILD, AT_FDCWD, "watched"));
	return 1;
}
static void touch(void) {
	CHECK(mknod("watched/new", S_IFREG | 0600, 0));
	close(CHECK(open("watched/new", O_WRONLY)));
	CHECK(unlink("watched/new"));
}
static void use_inotify(int *fd) {
	struct inotify_event *e = (void *)text;
	touch();
	got(fd[0]);
	obs("watch %d tells %x of %s", e->wd, e->mask, e->name);
}
static void use_fanotify(int *fd) {
	struct fanotify_event_metadata m = {0};
	touch();
	CHECK(read(fd[0], &m, sizeof m));
	obs("tells %llx by me %d", (unsigned long long)m.mask, m.pid == getpid()), close(m.fd);
}
static int make_memfd(int *fd) {
	fd[0] = CHECK(memfd_create("sent", MFD_ALLOW_SEALING));
	CHECK(write(fd[0], "in memory", 9)), CHECK(fcntl(fd[0], F_ADD_SEALS, F_SEAL_SHRINK)), CHECK(lseek(fd[0], 3, SEEK_SET));
	return 1;
}
static void use_memfd(int *fd) { obs("seals %x, then %s", fcntl(fd[0], F_GET_SEALS), got(fd[0])); }
static int make_pidfd(int *fd) { return fd[0] = CHECK(syscall(SYS_pidfd_open, getpid(), 0)), 1; }
static void use_pidfd(int *fd) {
	CHECK(syscall(SYS_pidfd_send_signal, fd[0], SIGUSR1, NULL, 0));
	sigset_t set;
	sigemptyset(&set), sigaddset(&set, SIGUSR1);
	obs("signal %d", CHECK(sigtimedwait(&set, NULL, &(struct timespec){0})));
}
static int make_netns(int *fd) { return fd[0] = CHECK(open("/proc/self/ns/net", O_RDONLY)), 1; }
static int make_pidns(int *fd) { return fd[0] = CHECK(open("/proc/self/ns/pid", O_RDONLY)), 1; }
static void use_ns(int *fd) {
	struct stat a, b, c;
	CHECK(fstat(fd[0], &a)), CHECK(stat("/proc/self/ns/net", &b)), CHECK(stat("/proc/self/ns/pid", &c));
	obs("net %d pid %d", a.st_ino == b.st_ino, a.st_ino == c.st_ino);
}
static int make_mqueue(int *fd) {
	char name[64];
	sprintf(name, "/glis-everykind-%d", getpid());
	struct mq_attr a = {.mq_maxmsg = 3, .mq_msgsize = 32};
	if (!carrier)
		mq_unlink(name); // of a run that failed
	fd[0] = CHECK(mq_open(name, O_RDWR | O_CREAT | O_NONBLOCK, 0600, &a));
	CHECK(mq_send(fd[0], "in the queue", 13, 5));
	return 1;
}
static void use_mqueue(int *fd) {
	char name[64];
	unsigned prio = 0;
	int n = mq_receive(fd[0], text, sizeof text, &prio);
	obs("%d of priority %u: %s", n, prio, text);
	sprintf(name, "/glis-everykind-%d", getpid()), mq_unlink(name);
}

// Sockets. Those of IP are on the loopback interface.
static struct sockaddr_in here(int fd) {
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t n = sizeof a;
	getsockname(fd, (void *)&a, &n);
	return a;
}
static int inet(int type, int protocol) {
	int fd = CHECK(socket(AF_INET, type, protocol));
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	CHECK(bind(fd, (void *)&a, sizeof a));
	return fd;
}
static int make_listener(int *fd) {
	fd[0] = listening(SOCK_STREAM, carrier ? "\0everykind 1" : "\0everykind 0", 12);
	return 1;
}
static void use_listener(int *fd) {
	int c = client(SOCK_STREAM, carrier ? "\0everykind 1" : "\0everykind 0", 12), s = CHECK(accept(fd[0], NULL, NULL));
	CHECK(write(c, "hello", 5)), obs("accepted: %s", got(s)), close(c), close(s);
}
static int make_tcp(int *fd) {
	int l = inet(SOCK_STREAM, 0);
	CHECK(listen(l, 1));
	struct sockaddr_in a = here(l);
	fd[0] = CHECK(socket(AF_INET, SOCK_STREAM, 0));
	CHECK(connect(fd[0], (void *)&a, sizeof a));
	fd[1] = CHECK(accept(l, NULL, NULL));
	close(l), CHECK(write(fd[1], "in the connection", 17));
	CHECK(poll(&(struct pollfd){fd[0], POLLIN, 0}, 1, -1));
	return 2;
}
static void use_tcp(int *fd) {
	obs("waits: %s", got(fd[0]));
	CHECK(write(fd[1], "now", 3));
	obs("comes: %s", got(fd[0]));
}
static int make_tcp_listener(int *fd) {
	fd[0] = inet(SOCK_STREAM, 0);
	CHECK(listen(fd[0], 5));
	return 1;
}
static int make_mptcp(int *fd) {
	if ((fd[0] = socket(AF_INET, SOCK_STREAM, 262)) < 0)
		return 0;
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	CHECK(bind(fd[0], (void *)&a, sizeof a)), CHECK(listen(fd[0], 5));
	return 1;
}
static void use_tcp_listener(int *fd) {
	struct sockaddr_in a = here(fd[0]);
	int c = CHECK(socket(AF_INET, SOCK_STREAM, 0));
	CHECK(connect(c, (void *)&a, sizeof a));
	int s = CHECK(accept(fd[0], NULL, NULL));
	CHECK(write(c, "hello", 5)), obs("accepted: %s", got(s)), close(c), close(s);
}
static int send_self(int fd) {
	struct sockaddr_in a = here(fd);
	CHECK(sendto(fd, "a datagram", 10, 0, (void *)&a, sizeof a));
	return 1;
}
static int make_udp(int *fd) { return send_self(fd[0] = inet(SOCK_DGRAM, 0)); }
static void use_udp(int *fd) {
	obs("waits: %s", got(fd[0])), send_self(fd[0]);
	obs("comes: %s", got(fd[0]));
}
static int make_udp6(int *fd) {
	fd[0] = CHECK(socket(AF_INET6, SOCK_DGRAM, 0));
	CHECK(bind(fd[0], (void *)&(struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT}, sizeof(struct sockaddr_in6)));
	return 1;
}
static int make_raw(int *fd) { return fd[0] = inet(SOCK_RAW, IPPROTO_ICMP), 1; }
static int make_netlink(int *fd) {
	fd[0] = CHECK(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE));
	CHECK(bind(fd[0], (void *)&(struct sockaddr_nl){.nl_family = AF_NETLINK, .nl_groups = 8 /* RTMGRP_TC */}, sizeof(struct sockaddr_nl)));
	return 1;
}
static int make_packet(int *fd) {
	fd[0] = CHECK(socket(AF_PACKET, SOCK_DGRAM, 0));
	CHECK(bind(fd[0], (void *)&(struct sockaddr_ll){.sll_family = AF_PACKET, .sll_protocol = htons(0x88b5), .sll_ifindex = if_nametoindex("lo")}, sizeof(struct sockaddr_ll)));
	return 1;
}
static int make_vsock(int *fd) { return (fd[0] = socket(AF_VSOCK, SOCK_STREAM, 0)) >= 0; }
static int make_xdp(int *fd) { return (fd[0] = socket(44 /* AF_XDP */, SOCK_RAW, 0)) >= 0; }
static void use_socket(int *fd) {
	unsigned char a[128] = {0};
	socklen_t n = sizeof a;
	if (getsockname(fd[0], (void *)a, &n)) // AF_XDP has none
		n = 0;
	if (*(sa_family_t *)a == AF_INET6)
		memset(a + 2, 0, 2); // a port that was free
	if (*(sa_family_t *)a == AF_NETLINK)
		memset(a + 4, 0, 4);
	obs("family %d type %d protocol %d, %016llx", option(fd[0], SO_DOMAIN), option(fd[0], SO_TYPE), option(fd[0], SO_PROTOCOL), (unsigned long long)fnv(a, n));
}
static int make_tun(int *fd) {
	if ((fd[0] = open("/dev/net/tun", O_RDWR | O_NONBLOCK)) < 0)
		return 0;
	struct ifreq r = {.ifr_flags = IFF_TUN | IFF_NO_PI};
	sprintf(r.ifr_name, "everykind%d", carrier);
	CHECK(ioctl(fd[0], TUNSETIFF, &r));
	return 1;
}
static void use_tun(int *fd) {
	struct ifreq r = {0};
	CHECK(ioctl(fd[0], TUNGETIFF, &r));
	obs("%s, flags %hx", r.ifr_name, r.ifr_flags);
}

static struct {
	const char *name;
	int (*make)(int *);
	void (*use)(int *);
} kinds[] = {
	{"file", make_file, use_file}, {"deleted", make_deleted, use_read}, {"directory", make_directory, NULL}, {"path", make_path, NULL},
	{"device", make_device, use_read}, {"proc", make_proc, use_read}, {"pipe", make_pipe, use_pair}, {"fifo", make_fifo, use_pair}, {"pty", make_pty, use_pair},
	{"eventfd", make_eventfd, use_counter}, {"timerfd", make_timerfd, use_timerfd}, {"signalfd", make_signalfd, use_signalfd},
	{"epoll", make_epoll, use_epoll}, {"inotify", make_inotify, use_inotify}, {"fanotify", make_fanotify, use_fanotify}, {"memfd", make_memfd, use_memfd},
	{"pidfd", make_pidfd, use_pidfd}, {"network namespace", make_netns, use_ns}, {"PID namespace", make_pidns, use_ns}, {"mqueue", make_mqueue, use_mqueue},
	{"stream", make_stream, use_pair}, {"packets", make_packets, use_pair}, {"datagrams", make_datagrams, use_pair}, {"listener", make_listener, use_listener},
	{"tcp", make_tcp, use_tcp}, {"tcp listener", make_tcp_listener, use_tcp_listener}, {"mptcp", make_mptcp, use_tcp_listener}, {"udp", make_udp, use_udp},
	{"udp6", make_udp6, use_socket}, {"raw", make_raw, use_socket}, {"netlink", make_netlink, use_socket}, {"packet", make_packet, use_socket},
	{"vsock", make_vsock, use_socket}, {"xdp", make_xdp, use_socket}, {"tun", make_tun, use_tun},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

// receive takes a message, or looks at the next one, and the descriptors in it.
static int receive(int from, int flags, unsigned char *which, int *fd) {
	char control[CMSG_SPACE(4 * sizeof(int))];
	struct iovec v = {which, 1};
	struct msghdr m = {NULL, 0, &v, 1, control, sizeof control, 0};
	if (recvmsg(from, &m, flags | MSG_DONTWAIT | MSG_CMSG_CLOEXEC) != 1)
		return -1;
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	int n = c ? (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int)) : 0;
	memcpy(fd, CMSG_DATA(c), n * sizeof(int));
	return n;
}

// tell notes what any descriptor tells.
static void tell(const char *name, int fd) {
	struct stat st;
	CHECK(fstat(fd, &st));
	int flags = fcntl(fd, F_GETFL);
	obs("%s: mode %o, flags %o, at %lld", name, st.st_mode, flags, flags & O_PATH ? 0 : (long long)lseek(fd, 0, SEEK_CUR));
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	umask(0);
	int ends[2][2], fd[4];
	unsigned char which;
	CHECK(mkdir("watched", 0755)), CHECK(pipe2(pipes, O_NONBLOCK));
	for (carrier = 0; carrier < 2; carrier++) {
		CHECK(socketpair(AF_UNIX, carrier ? SOCK_DGRAM : SOCK_STREAM, 0, ends[carrier]));
		set(ends[carrier][0], SO_SNDBUF, 400000);
		for (unsigned char k = 0; k < KINDS; k++) {
			int n = kinds[k].make(fd);
			if (n <= 0) {
				obs("%s: this kernel has none", kinds[k].name);
				continue;
			}
			with(ends[carrier][0], (char *)&k, 1, fd, n, NULL);
			while (n--)
				close(fd[n]);
		}
	}
	do
		for (int i = 0; i < 2; i++) {
			int n = CHECK(receive(ends[i][1], MSG_PEEK, &which, fd));
			obs("first: %s", kinds[which].name);
			while (n--)
				tell(kinds[which].name, fd[n]), close(fd[n]);
		}
	while (savepoint());
	for (carrier = 0; carrier < 2; carrier++)
		for (int n; (n = receive(ends[carrier][1], 0, &which, fd)) > 0;) {
			obs("%d: %s: %d", carrier, kinds[which].name, n);
			for (int i = 0; i < n; i++)
				tell(kinds[which].name, fd[i]);
			if (kinds[which].use)
				kinds[which].use(fd);
			while (n--)
				close(fd[n]);
		}
	savepoint();
	return 0;
}
