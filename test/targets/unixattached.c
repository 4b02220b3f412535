// A connection that waits to be accepted, with sockets that are in no process, and to which
// things are attached: filters, groups, what goes with every packet, keys; and with what was
// opened with O_PATH.
#include "unix.h"
#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/magic.h>
#include <linux/tcp.h>
#include <net/if.h>
#include <netinet/in.h>
#include <arpa/inet.h>
#include <sys/mount.h>
#include <sys/vfs.h>

static int fds[40], n;

static int keep(int fd) { return fds[n++] = CHECK(fd); }

// only lets those messages through that begin with a byte.
static void only(int fd, int at, char c) {
	struct sock_filter code[] = {{BPF_LD | BPF_B | BPF_ABS, 0, 0, at}, {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, c}, {BPF_RET | BPF_K, 0, 0, 1000}, {BPF_RET | BPF_K, 0, 0, 0}};
	CHECK(setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &(struct sock_fprog){4, code}, sizeof(struct sock_fprog)));
}

// cut attaches a program of eBPF that lets so many bytes through.
static void cut(int fd, int size) {
	struct bpf_insn code[] = {{BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, size}, {BPF_JMP | BPF_EXIT, 0, 0, 0, 0}};
	union bpf_attr a = {.prog_type = BPF_PROG_TYPE_SOCKET_FILTER, .insn_cnt = 2};
	a.insns = (uintptr_t)code, a.license = (uintptr_t) "GPL";
	int program = CHECK(syscall(SYS_bpf, BPF_PROG_LOAD, &a, sizeof a));
	CHECK(setsockopt(fd, SOL_SOCKET, SO_ATTACH_BPF, &program, sizeof program)), CHECK(close(program));
}

static int loopback(int type, struct sockaddr_in *at) {
	socklen_t len = sizeof *at;
	int s = CHECK(socket(AF_INET, type, 0));
	*at = (struct sockaddr_in){AF_INET, 0, {htonl(INADDR_LOOPBACK)}, {0}};
	CHECK(bind(s, (void *)at, len)), CHECK(getsockname(s, (void *)at, &len));
	return s;
}

static void filter(const char *what, int fd) {
	struct sock_filter code[10];
	socklen_t len = 10;
	CHECK(getsockopt(fd, SOL_SOCKET, SO_GET_FILTER, code, &len));
	obs("%s: filter of %d, locked %d, %016llx", what, len, option(fd, SO_LOCK_FILTER), (unsigned long long)fnv((void *)code, len * sizeof *code));
}

static void bytes(const char *what, int fd, int level, int opt) {
	unsigned char v[64] = {0};
	socklen_t len = sizeof v;
	CHECK(getsockopt(fd, level, opt, v, &len));
	obs("%s: option %d/%d has %d bytes %llx", what, level, opt, len, (unsigned long long)fnv((void *)v, len));
}

static void receive(const char *what, int fd) {
	char b[100] = "";
	ssize_t r;
	while ((r = recv(fd, b, sizeof b - 1, MSG_DONTWAIT)) >= 0)
		obs("%s: %.*s", what, (int)r, b);
	MUST(errno == EAGAIN);
}

static struct sockaddr_storage group(const char *ip) {
	struct sockaddr_storage s = {0};
	struct sockaddr_in *in = (void *)&s;
	struct sockaddr_in6 *in6 = (void *)&s;
	s.ss_family = strchr(ip, ':') ? AF_INET6 : AF_INET;
	MUST(inet_pton(s.ss_family, ip, s.ss_family == AF_INET ? (void *)&in->sin_addr : &in6->sin6_addr) == 1);
	return s;
}

static void join(int fd, const char *ip, const char *source) {
	int level = strchr(ip, ':') ? IPPROTO_IPV6 : IPPROTO_IP;
	struct group_source_req r = {if_nametoindex("lo"), group(ip), group(source ? source : ip)};
	if (source)
		CHECK(setsockopt(fd, level, MCAST_JOIN_SOURCE_GROUP, &r, sizeof r));
	else
		CHECK(setsockopt(fd, level, MCAST_JOIN_GROUP, &(struct group_req){r.gsr_interface, r.gsr_group}, sizeof(struct group_req)));
}

static void member(int fd, const char *ip) {
	char b[sizeof(struct group_filter) + 4 * sizeof(struct sockaddr_storage)] = {0};
	struct group_filter *f = (void *)b;
	f->gf_interface = if_nametoindex("lo"), f->gf_group = group(ip), f->gf_numsrc = 4;
	socklen_t len = sizeof b;
	if (getsockopt(fd, strchr(ip, ':') ? IPPROTO_IPV6 : IPPROTO_IP, MCAST_MSFILTER, f, &len))
		obs("%s: %s", ip, strerror(errno));
	else
		obs("%s: mode %d, %d sources", ip, f->gf_fmode, f->gf_numsrc);
}

static int signed_for(int fd) { // peers at this address sign their segments
	struct tcp_md5sig key = {.tcpm_keylen = 5, .tcpm_key = "glis!"};
	((struct sockaddr_in *)&key.tcpm_addr)->sin_family = AF_INET, ((struct sockaddr_in *)&key.tcpm_addr)->sin_addr.s_addr = inet_addr("127.0.0.1");
	if (!setsockopt(fd, IPPROTO_TCP, TCP_MD5SIG, &key, sizeof key))
		return 1;
	MUST(errno == ENOPROTOOPT);
	return 0;
}

// recorded notes which way a packet took.
static void recorded(int fd) {
	struct sockaddr_in at;
	int to = loopback(SOCK_DGRAM, &at);
	CHECK(setsockopt(to, IPPROTO_IP, IP_RECVOPTS, &(int){1}, sizeof(int))), CHECK(sendto(fd, "way", 3, 0, (void *)&at, sizeof at));
	char data[20], control[200];
	struct iovec v = {data, sizeof data};
	struct msghdr h = {NULL, 0, &v, 1, control, sizeof control, 0};
	obs("way: %zd bytes", CHECK(recvmsg(to, &h, 0)));
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&h); c; c = CMSG_NXTHDR(&h, c))
		obs("way: %d/%d of %zu bytes, %llx", c->cmsg_level, c->cmsg_type, (size_t)c->cmsg_len, (unsigned long long)fnv(CMSG_DATA(c), c->cmsg_len - CMSG_LEN(0)));
	close(to);
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	struct statfs fs;
	if (statfs("/sys/fs/bpf", &fs) || fs.f_type != BPF_FS_MAGIC)
		CHECK(mount("bpf", "/sys/fs/bpf", "bpf", 0, NULL));
	int l = add("door", listening(SOCK_STREAM, NAME("door"))), c = add("client", client(SOCK_STREAM, NAME("door"))), d[2];
	struct sockaddr_in udp, locked, headed, listener;
	// 0: datagrams that a filter lets through, 1, 2: of UDP, the second one locked; 3: in
	// groups, with and without sources; 4, 5: what goes with every packet.
	CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, d)), only(keep(d[0]), 0, 'y'), set(d[0], SO_PRIORITY, 3), CHECK(write(d[1], "yes", 3)), CHECK(write(d[1], "no", 2));
	only(keep(loopback(SOCK_DGRAM, &udp)), 8, 'y'), only(keep(loopback(SOCK_DGRAM, &locked)), 8, 'y'), set(fds[2], SO_LOCK_FILTER, 1), set(fds[2], SO_RCVBUF, 30000);
	int both = keep(CHECK(socket(AF_INET6, SOCK_DGRAM, 0)));
	join(both, "239.7.9.1", NULL), join(both, "239.7.9.2", "127.0.0.1"), join(both, "239.7.9.2", "127.0.0.2"), join(both, "ff02::7:9", NULL), join(both, "ff02::7:a", "::1");
	unsigned char alert[] = {148, 4, 0, 0}, hop[] = {0, 0, 1, 4, 0, 0, 0, 0};
	CHECK(setsockopt(keep(loopback(SOCK_DGRAM, &headed)), IPPROTO_IP, IP_OPTIONS, alert, sizeof alert));
	int heads = keep(CHECK(socket(AF_INET6, SOCK_DGRAM, 0)));
	CHECK(setsockopt(heads, IPPROTO_IPV6, IPV6_HOPOPTS, hop, sizeof hop)), CHECK(setsockopt(heads, IPPROTO_IPV6, IPV6_DSTOPTS, hop, sizeof hop));
	// 6: a listener with a key, 7: a socket of TCP with a filter and options, 8: in a group.
	int keyed = keep(loopback(SOCK_STREAM, &listener));
	signed_for(keyed), CHECK(listen(keyed, 5));
	int stream = keep(CHECK(socket(AF_INET, SOCK_STREAM, 0)));
	only(stream, 0, 'y'), CHECK(setsockopt(stream, IPPROTO_IP, IP_OPTIONS, alert, sizeof alert)), set(stream, SO_LOCK_FILTER, 1);
	int four = keep(CHECK(socket(AF_INET, SOCK_DGRAM, 0)));
	join(four, "239.7.9.3", NULL);
	// 9 to 13: a file, a link, a directory, a device, and a file that is gone but open here.
	CHECK(close(CHECK(open("file", O_WRONLY | O_CREAT, 0640)))), CHECK(symlink("file", "link")), CHECK(mkdir("dir", 0700));
	int gone = CHECK(open("gone", O_RDWR | O_CREAT, 0600));
	keep(open("file", O_PATH)), keep(open("link", O_PATH | O_NOFOLLOW)), keep(open("dir", O_PATH | O_DIRECTORY)), keep(open("/dev/null", O_PATH)), keep(open("gone", O_PATH)), CHECK(unlink("gone"));
	// 14: a socket's name; 15: a connection with a filter that lets all through; 16, 17: programs
	// of eBPF, at a socket of UDP, and of datagrams.
	keep(open("door", O_PATH));
	struct sockaddr_in reach, cuts;
	int door = loopback(SOCK_STREAM, &reach), far = CHECK(socket(AF_INET, SOCK_STREAM, 0)), u[2];
	CHECK(listen(door, 1)), CHECK(connect(far, (void *)&reach, sizeof reach));
	int near = keep(accept(door, NULL, NULL));
	CHECK(setsockopt(near, SOL_SOCKET, SO_ATTACH_FILTER, &(struct sock_fprog){1, (struct sock_filter[]){{BPF_RET | BPF_K, 0, 0, 0x40000}}}, sizeof(struct sock_fprog)));
	set(near, SO_LOCK_FILTER, 1), CHECK(close(door)), CHECK(write(far, "sent", 4)), CHECK(poll(&(struct pollfd){near, POLLIN, 0}, 1, -1));
	CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, u)), cut(keep(loopback(SOCK_DGRAM, &cuts)), 10), cut(keep(u[0]), 3), CHECK(write(u[1], "whole", 5));
	// 18, 19: IP options that the kernel changes when they are set.
	unsigned char record[] = {7, 11, 8, 127, 0, 0, 9, 0, 0, 0, 0, 0};
	unsigned char lead[] = {131, 11, 4, 127, 0, 0, 2, 127, 0, 0, 3, 7, 7, 4, 0, 0, 0, 0, 68, 12, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0};
	CHECK(setsockopt(keep(CHECK(socket(AF_INET, SOCK_DGRAM, 0))), IPPROTO_IP, IP_OPTIONS, record, sizeof record));
	CHECK(setsockopt(keep(CHECK(socket(AF_INET, SOCK_STREAM, 0))), IPPROTO_IP, IP_OPTIONS, lead, sizeof lead));
	with(c, "files", 5, fds, n, NULL);
	for (int i = 0; i < n; i++)
		CHECK(close(fds[i]));
	add("datagrams", d[1]);
	do
		look_all();
	while (savepoint());

	char data[20], control[CMSG_SPACE(sizeof fds)];
	struct iovec v = {data, sizeof data};
	struct msghdr h = {NULL, 0, &v, 1, control, sizeof control, 0};
	int s = CHECK(accept(l, NULL, NULL));
	MUST(CHECK(recvmsg(s, &h, 0)) == 5 && CMSG_FIRSTHDR(&h)->cmsg_len == CMSG_LEN(n * sizeof(int)));
	memcpy(fds, CMSG_DATA(CMSG_FIRSTHDR(&h)), n * sizeof(int));
	CHECK(write(d[1], "n", 1)), CHECK(write(d[1], "y again", 7)), receive("datagrams", fds[0]), filter("datagrams", fds[0]);
	int from = CHECK(socket(AF_INET, SOCK_DGRAM, 0));
	for (int i = 1; i < 3; i++) {
		CHECK(sendto(from, "no", 2, 0, (void *)(i == 1 ? &udp : &locked), sizeof udp)), CHECK(sendto(from, "yes", 3, 0, (void *)(i == 1 ? &udp : &locked), sizeof udp));
		CHECK(poll(&(struct pollfd){fds[i], POLLIN, 0}, 1, -1)), receive("UDP", fds[i]), filter("UDP", fds[i]);
	}
	obs("locked: %d", setsockopt(fds[2], SOL_SOCKET, SO_DETACH_FILTER, &(int){0}, sizeof(int)) ? errno : 0);
	member(fds[3], "239.7.9.1"), member(fds[3], "239.7.9.2"), member(fds[3], "239.7.9.3"), member(fds[3], "ff02::7:9"), member(fds[3], "ff02::7:a"), member(fds[8], "239.7.9.3");
	bytes("heads", fds[4], IPPROTO_IP, IP_OPTIONS), bytes("heads", fds[5], IPPROTO_IPV6, IPV6_HOPOPTS), bytes("heads", fds[5], IPPROTO_IPV6, IPV6_DSTOPTS), bytes("heads", fds[7], IPPROTO_IP, IP_OPTIONS), filter("stream", fds[7]);
	int to = CHECK(socket(AF_INET, SOCK_STREAM, 0)), has = signed_for(to);
	CHECK(connect(to, (void *)&listener, sizeof listener)), obs("keys %d: accepted %d", has, CHECK(accept(fds[6], NULL, NULL)) >= 0);
	receive("near", fds[15]), filter("near", fds[15]), CHECK(write(fds[15], "back", 4)), CHECK(poll(&(struct pollfd){far, POLLIN, 0}, 1, -1)), receive("far", far);
	CHECK(sendto(from, "whole", 5, 0, (void *)&cuts, sizeof cuts)), CHECK(poll(&(struct pollfd){fds[16], POLLIN, 0}, 1, -1)), receive("cut", fds[16]);
	CHECK(write(u[1], "again", 5)), receive("cut", fds[17]);
	bytes("record", fds[18], IPPROTO_IP, IP_OPTIONS), bytes("lead", fds[19], IPPROTO_IP, IP_OPTIONS), recorded(fds[18]);
	for (int i = 9; i < 15; i++) {
		struct stat st;
		CHECK(fstat(fds[i], &st));
		obs("%d: mode %o, flags %o, links %d", i, st.st_mode, fcntl(fds[i], F_GETFL), S_ISDIR(st.st_mode) ? 0 : (int)st.st_nlink);
	}
	CHECK(fchmodat(fds[11], ".", 0711, 0)), CHECK(fchmod(gone, 0604));
	struct stat st;
	CHECK(fstat(fds[13], &st)), obs("gone: mode %o", st.st_mode);
	savepoint();
	return 0;
}
