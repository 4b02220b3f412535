// States of unix sockets that can't be saved: one of them, by name. In the end
// everything is still in its queue.
#include "unix.h"
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <netinet/in.h>
#include <sys/syscall.h>
#include <sys/xattr.h>

static int a = -1, b = -1;
static const char *text;  // that waits at a
static int files, failed; // what comes along, or before

// outsider runs fn in a process that isn't of the tree, and stays as long as the tree.
static void outsider(void (*fn)(void)) {
	int alive[2], tree = CHECK(syscall(SYS_pidfd_open, getpid(), 0));
	char c;
	CHECK(pipe(alive));
	pid_t pid = CHECK(fork());
	if (pid) {
		CHECK(waitpid(pid, NULL, 0));
		close(alive[1]);
		CHECK(read(alive[0], &c, 1));
		close(alive[0]), close(tree);
		return;
	}
	if (CHECK(fork()))
		_exit(0);
	CHECK(setsid());
	fn();
	CHECK(write(alive[1], "!", 1));
	close(alive[0]), close(alive[1]);
	CHECK(poll(&(struct pollfd){tree, POLLIN, 0}, 1, -1));
	_exit(0);
}

static void pair(int type) {
	int p[2];
	CHECK(socketpair(AF_UNIX, type, 0, p));
	a = p[0], b = p[1];
}

static void keep_second(void) { close(a); }
static void outside(void) {
	pair(SOCK_STREAM), outsider(keep_second);
	close(b), b = -1;
}

static void connect_out(void) {
	b = client(SOCK_STREAM, NAME("server"));
	CHECK(write(b, "hello", 5));
}
static void wait_client(void) {
	a = listening(SOCK_STREAM, NAME("server"));
	outsider(connect_out), text = "hello";
}
static void listen_out(void) { b = listening(SOCK_STREAM, NAME("server")); }
static void wait_server(void) { outsider(listen_out), a = client(SOCK_STREAM, NAME("server")); }

static void rebind_out(void) { bound(SOCK_STREAM, NAME("\0glis refused client")); }
static void wait_renamed(void) {
	b = listening(SOCK_STREAM, NAME("server"));
	close(to(bound(SOCK_STREAM, NAME("\0glis refused client")), NAME("server")));
	outsider(rebind_out);
}
// The name that somebody had who is closed belongs to a socket outside of the tree by now:
// a listener that has accepted a connection, a peer, one that has sent a datagram; and who
// has sent one is outside itself.
#define HEIR NAME("\0glis refused heir")
static void inherit_out(void) { CHECK(listen(bound(SOCK_STREAM, HEIR), 1)); }
static void inherit_datagrams(void) { bound(SOCK_DGRAM, HEIR); }
static void heir_accepted(void) {
	int l = listening(SOCK_STREAM, HEIR);
	b = client(SOCK_STREAM, HEIR), a = CHECK(accept(l, NULL, NULL));
	CHECK(write(b, "hello", 5)), close(l), outsider(inherit_out), text = "hello";
}
// It is connected itself by now, so that it might have the name from its listener.
static void inherit_client(void) {
	int l = listening(SOCK_STREAM, NAME("elsewhere"));
	to(bound(SOCK_STREAM, HEIR), NAME("elsewhere")), CHECK(accept(l, NULL, NULL));
}
static void heir_client(void) {
	int l = listening(SOCK_STREAM, HEIR);
	b = client(SOCK_STREAM, HEIR), a = CHECK(accept(l, NULL, NULL));
	CHECK(write(b, "hello", 5)), close(l), outsider(inherit_client), text = "hello";
}
static void heir_peer(void) {
	int l = listening(SOCK_STREAM, HEIR);
	a = client(SOCK_STREAM, HEIR), b = CHECK(accept(l, NULL, NULL));
	CHECK(write(b, "hello", 5)), close(b), close(l), outsider(inherit_out), text = "hello";
}
static void send_out(int from) {
	struct sockaddr_un un;
	socklen_t n = address(&un, NAME("server"));
	CHECK(sendto(from, "hello", 5, 0, (void *)&un, n));
}
static void heir_sender(void) {
	a = bound(SOCK_DGRAM, NAME("server")), b = bound(SOCK_DGRAM, HEIR);
	send_out(b), close(b), outsider(inherit_datagrams), text = "hello";
}
static void send_outside(void) { send_out(bound(SOCK_DGRAM, HEIR)); }
static void sender_outside(void) { a = bound(SOCK_DGRAM, NAME("server")), outsider(send_outside), text = "hello"; }

static void wait_lonely(void) {
	a = listening(SOCK_STREAM, NAME("server")), b = client(SOCK_STREAM, NAME("server"));
	int only = CHECK(inotify_init1(0));
	CHECK(inotify_add_watch(only, ".", IN_CREATE)), CHECK(mkdir("event", 0755));
	with(b, "files", 5, &only, 1, NULL);
	close(only), text = "files", files = 1;
}
// An end of a pipe is outside, which nothing but a count tells.
static int only[2];
static void keep_writer(void) { close(only[0]); }
static void wait_halved(void) {
	CHECK(pipe(only)), outsider(keep_writer);
	a = listening(SOCK_STREAM, NAME("server")), b = client(SOCK_STREAM, NAME("server"));
	with(b, "files", 5, only, 1, NULL);
	close(only[0]), close(only[1]), text = "files", files = 1;
}
// What is watched by an epoll file that is outside.
static void watch_out(void) {
	CHECK(epoll_ctl(CHECK(epoll_create1(0)), EPOLL_CTL_ADD, only[0], &(struct epoll_event){.events = EPOLLIN}));
	close(only[0]), close(only[1]), close(a), close(b);
}
static void wait_watched(void) {
	a = listening(SOCK_STREAM, NAME("server")), b = client(SOCK_STREAM, NAME("server"));
	CHECK(pipe(only)), outsider(watch_out);
	with(b, "files", 5, only, 2, NULL);
	close(only[0]), close(only[1]), text = "files", files = 1;
}
// An error is in front of what waits, and can't be looked behind.
static void lonely(void) {
	pair(SOCK_DGRAM);
	int only = CHECK(eventfd(1, 0));
	with(b, "files", 5, &only, 1, NULL);
	CHECK(write(a, "unread", 6));
	CHECK(connect(b, (void *)&(struct sockaddr_un){AF_UNSPEC}, sizeof(struct sockaddr_un)));
	close(only), text = "files", files = 1, failed = ECONNRESET;
}

// A TCP connection that was reset after urgent data, whose end is only in a message.
static void wait_ended(void) {
	struct sockaddr_in at = {AF_INET, 0, {htonl(INADDR_LOOPBACK)}, {0}};
	socklen_t len = sizeof at;
	int l = CHECK(socket(AF_INET, SOCK_STREAM, 0)), c = CHECK(socket(AF_INET, SOCK_STREAM, 0));
	CHECK(bind(l, (void *)&at, len)), CHECK(listen(l, 1)), CHECK(getsockname(l, (void *)&at, &len)), CHECK(connect(c, (void *)&at, len));
	int s = CHECK(accept(l, NULL, NULL));
	struct linger now = {1, 0};
	CHECK(send(c, "urgent", 6, MSG_OOB)), CHECK(poll(&(struct pollfd){s, POLLPRI, 0}, 1, -1));
	CHECK(setsockopt(c, SOL_SOCKET, SO_LINGER, &now, sizeof now)), CHECK(close(c));
	struct pollfd p = {s, 0, 0};
	CHECK(poll(&p, 1, -1)); // its end
	a = listening(SOCK_STREAM, NAME("server")), b = client(SOCK_STREAM, NAME("server"));
	with(b, "files", 5, &s, 1, NULL), close(s), close(l), text = "files", files = 1;
}
// A peer is only in a message, out of reach.
static void post_second(void) {
	int p[2];
	CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, p));
	with(p[0], "lost", 4, &b, 1, NULL);
	close(a), close(b);
}
static void posted(void) {
	pair(SOCK_DGRAM), outsider(post_second);
	close(b), b = -1;
}

static void attribute(void) {
	a = bound(SOCK_DGRAM, NAME("server"));
	CHECK(setxattr("server", "trusted.glis", "x", 1, 0));
}
static void hard_link(void) {
	a = bound(SOCK_DGRAM, NAME("server"));
	CHECK(mkdir("far", 0755)), CHECK(link("server", "far/server"));
}
static void net(void) {
	int here = CHECK(open("/proc/self/ns/net", O_RDONLY));
	CHECK(unshare(CLONE_NEWNET));
	pair(SOCK_STREAM);
	CHECK(setns(here, CLONE_NEWNET));
	close(here);
}
static void path_only(void) {
	char name[40];
	snprintf(name, sizeof name, "/proc/self/fd/%d", bound(SOCK_DGRAM, NAME("server")));
	a = CHECK(open(name, O_PATH));
}

static struct {
	const char *name;
	void (*make)(void);
} all[] = {{"outside", outside}, {"waitclient", wait_client}, {"waitserver", wait_server}, {"waitrenamed", wait_renamed}, {"heiraccepted", heir_accepted}, {"heirclient", heir_client}, {"heirpeer", heir_peer}, {"heirsender", heir_sender}, {"senderoutside", sender_outside}, {"waitlonely", wait_lonely}, {"waithalved", wait_halved}, {"waitwatched", wait_watched}, {"waitended", wait_ended}, {"posted", posted}, {"lonely", lonely}, {"attribute", attribute}, {"hardlink", hard_link}, {"net", net}, {"opath", path_only}};

// intact checks that the queue is as it was made.
static void intact(void) {
	char data[20], control[100];
	struct iovec v = {data, sizeof data};
	struct msghdr m = {NULL, 0, &v, 1, control, sizeof control, 0};
	if (!text)
		return;
	if (option(a, SO_ACCEPTCONN))
		a = CHECK(accept(a, NULL, NULL));
	MUST(option(a, SO_ERROR) == failed);
	MUST(recvmsg(a, &m, MSG_DONTWAIT) == (ssize_t)strlen(text) && !memcmp(data, text, strlen(text)));
	MUST(!files == !m.msg_controllen);
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	int made = 0;
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		if (!strcmp(all[i].name, argv[1]))
			all[i].make(), made++;
	MUST(made == 1);
	while (savepoint())
		;
	intact();
	return 0;
}
