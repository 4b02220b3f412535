// Sockets that listen, or are only bound: unix ones by path, relative path and
// abstract name, TCP over IPv4 and IPv6, UDP; with options, and with a port
// that two share. At the end all are connected to.
// Arguments: base or more
#include "ctl.h"
#include <grp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

static struct {
	const char *name;
	int fd;
	struct sockaddr_storage at;
	socklen_t len;
} s[20];
static int n, more;

static int add(const char *name, int family, int type) {
	int fd = CHECK(socket(family, type, 0));
	s[n].name = name;
	s[n++].fd = fd;
	return fd;
}

static void set(int fd, int level, int opt, int v) {
	CHECK(setsockopt(fd, level, opt, &v, sizeof v));
}

static int get(int fd, int level, int opt) {
	int v = 0;
	socklen_t len = sizeof v;
	return getsockopt(fd, level, opt, &v, &len) ? -errno : v;
}

static int named(const char *name, int type, const char *path, size_t len) {
	struct sockaddr_un un = {AF_UNIX};
	memcpy(un.sun_path, path, len);
	int fd = add(name, AF_UNIX, type);
	CHECK(bind(fd, (void *)&un, offsetof(struct sockaddr_un, sun_path) + len));
	return fd;
}

static int ip4(const char *name, int type) {
	struct sockaddr_in in = {AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = add(name, AF_INET, type);
	CHECK(bind(fd, (void *)&in, sizeof in));
	return fd;
}

static int ip6(const char *name, int type, int only) {
	struct sockaddr_in6 in = {AF_INET6, .sin6_addr = IN6ADDR_ANY_INIT};
	int fd = add(name, AF_INET6, type);
	set(fd, IPPROTO_IPV6, IPV6_V6ONLY, only);
	CHECK(bind(fd, (void *)&in, sizeof in));
	return fd;
}

static void look(int i) {
	static const int sol[] = {SO_TYPE, SO_PROTOCOL, SO_ACCEPTCONN, SO_REUSEADDR, SO_REUSEPORT, SO_KEEPALIVE, SO_SNDBUF, SO_RCVBUF, SO_PASSCRED, SO_PRIORITY};
	static const int tcp[] = {TCP_NODELAY, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT, TCP_DEFER_ACCEPT, TCP_USER_TIMEOUT, TCP_FASTOPEN, TCP_SYNCNT};
	static const int ip[] = {IP_TOS, IP_TTL, IP_PKTINFO, IP_RECVERR, IP_MTU_DISCOVER, IP_FREEBIND, IP_TRANSPARENT};
	static const int v6[] = {IPV6_V6ONLY, IPV6_UNICAST_HOPS, IPV6_TCLASS, IPV6_RECVPKTINFO};
	int fd = s[i].fd, e = errno;
	struct sockaddr_storage at = {0};
	struct stat st = {0};
	struct ucred who = {0};
	char line[2000], cc[16] = "";
	socklen_t len = sizeof at;
	int p = 0;
	CHECK(getsockname(fd, (void *)&at, &len));
	CHECK(fstat(fd, &st));
	gid_t groups[9] = {0};
	p += sprintf(line + p, "flags %o fd %d inode %o", fcntl(fd, F_GETFL), fcntl(fd, F_GETFD), st.st_mode);
	for (unsigned j = 0; j < sizeof sol / sizeof *sol; j++)
		p += sprintf(line + p, " %d", get(fd, SOL_SOCKET, sol[j]));
	for (unsigned j = 0; j < sizeof tcp / sizeof *tcp; j++)
		p += sprintf(line + p, " %d", get(fd, IPPROTO_TCP, tcp[j]));
	for (unsigned j = 0; j < sizeof ip / sizeof *ip; j++)
		p += sprintf(line + p, " %d", get(fd, IPPROTO_IP, ip[j]));
	for (unsigned j = 0; j < sizeof v6 / sizeof *v6; j++)
		p += sprintf(line + p, " %d", get(fd, IPPROTO_IPV6, v6[j]));
	struct tcp_info info = {0};
	socklen_t il = sizeof info;
	if (!getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &il))
		p += sprintf(line + p, " state %d waiting %d backlog %d", info.tcpi_state, info.tcpi_unacked, info.tcpi_state == TCP_LISTEN ? info.tcpi_sacked : 0);
	il = sizeof cc;
	getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, cc, &il);
	obs("%s: %s %s", s[i].name, line, cc);
	// Ports, temporary directories and PIDs are only the same within one run.
	il = sizeof who;
	if (more && at.ss_family == AF_UNIX && get(fd, SOL_SOCKET, SO_ACCEPTCONN))
		CHECK(getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &il));
	il = sizeof groups;
	if (who.pid)
		CHECK(getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &il));
	obs("=%s: at %016llx, %d bytes, opened by %d %d %d (%d %d)", s[i].name, (unsigned long long)fnv(&at, len), len, who.pid, who.uid, who.gid, groups[0], groups[1]);
	s[i].at = at, s[i].len = len;
	errno = e;
}

// fill connects to a unix listener until it has enough: how many it lets wait
// is its backlog.
static void fill(int i) {
	int fd[64], k = 0, ok = 1;
	while (k < 64 && ok) {
		fd[k] = CHECK(socket(AF_UNIX, get(s[i].fd, SOL_SOCKET, SO_TYPE) | SOCK_NONBLOCK, 0));
		ok = !connect(fd[k++], (void *)&s[i].at, s[i].len);
	}
	obs("%s: %d, then %s", s[i].name, k - 1, strerror(errno));
	for (int j = 0; j < k - 1; j++)
		CHECK(close(CHECK(accept(s[i].fd, NULL, NULL))));
	while (k--)
		close(fd[k]);
}

// serve sends a byte to every socket, through a connection if it listens.
static void serve(int i) {
	int type = get(s[i].fd, SOL_SOCKET, SO_TYPE), family = s[i].at.ss_family, a = s[i].fd;
	char b = 0;
	if (type != SOCK_DGRAM && !get(s[i].fd, SOL_SOCKET, SO_ACCEPTCONN)) {
		obs("%s: listen %d", s[i].name, listen(s[i].fd, 3));
		return;
	}
	int c = CHECK(socket(family, type, 0));
	CHECK(connect(c, (void *)&s[i].at, s[i].len));
	CHECK(write(c, "x", 1));
	if (type != SOCK_DGRAM)
		a = CHECK(accept(s[i].fd, NULL, NULL));
	CHECK(read(a, &b, 1));
	obs("%s: got %c, nodelay %d, passcred %d, tos %d", s[i].name, b, get(a, IPPROTO_TCP, TCP_NODELAY), get(a, SOL_SOCKET, SO_PASSCRED), get(a, IPPROTO_IP, IP_TOS));
	if (a != s[i].fd)
		close(a);
	close(c);
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	more = !strcmp(argv[1], "more");
	char path[300], abstract[40];
	umask(0);
	CHECK(mkdir("sub", 0755));
	snprintf(path, sizeof path, "%s/p.sock", ctl_dir);
	int fd = named("path", SOCK_STREAM, path, strlen(path) + 1);
	set(fd, SOL_SOCKET, SO_PASSCRED, 1);
	CHECK(chmod(path, 0640)), CHECK(chown(path, 1234, 5678)), CHECK(listen(fd, 5));
	fd = named("relative", SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, "sub/r.sock", 11);
	CHECK(listen(fd, 0));
	CHECK(dup(fd));
	abstract[0] = 0;
	int len = 1 + sprintf(abstract + 1, "glis-test-%d", getpid());
	fd = named("abstract", SOCK_STREAM, abstract, len);
	if (more)
		CHECK(setgroups(2, (gid_t[]){7, 8})), CHECK(setegid(333)), CHECK(seteuid(222));
	CHECK(listen(fd, 9));
	if (more)
		CHECK(seteuid(0)), CHECK(setegid(0)), CHECK(setgroups(0, NULL));
	named("datagrams", SOCK_DGRAM, "d.sock", 7);
	named("bound", SOCK_STREAM, "b.sock", 7);
	fd = named("auto", SOCK_DGRAM, "", 0);
	fd = ip4("tcp4", SOCK_STREAM);
	set(fd, IPPROTO_TCP, TCP_NODELAY, 1), set(fd, IPPROTO_TCP, TCP_KEEPIDLE, 77), set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	set(fd, IPPROTO_IP, IP_TOS, 0x10), set(fd, SOL_SOCKET, SO_RCVBUF, 50000);
	if (more) {
		set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, 12345);
		CHECK(setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 5));
	}
	CHECK(listen(fd, 7));
	fd = ip6("tcp6", SOCK_STREAM, 0);
	if (more)
		set(fd, IPPROTO_TCP, TCP_FASTOPEN, 5), set(fd, IPPROTO_IPV6, IPV6_TCLASS, 0x20);
	CHECK(listen(fd, 7));
	fd = ip6("v6only", SOCK_STREAM, 1);
	if (more)
		set(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 9), set(fd, IPPROTO_TCP, TCP_SYNCNT, 4);
	CHECK(listen(fd, 1));
	ip4("tcpbound", SOCK_STREAM);
	ip4("udp4", SOCK_DGRAM);
	fd = ip6("udp6", SOCK_DGRAM, 0);
	set(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
	socklen_t sl = sizeof s[n].at;
	for (int i = 0; i < 2; i++) { // two listeners of one port
		fd = add(i ? "shared 2" : "shared 1", AF_INET, SOCK_STREAM);
		set(fd, SOL_SOCKET, SO_REUSEPORT, 1);
		if (!i)
			s[n - 1].at = *(struct sockaddr_storage *)&(struct sockaddr_in){AF_INET};
		CHECK(bind(fd, (void *)(i ? &s[n - 2].at : &s[n - 1].at), sizeof(struct sockaddr_in)));
		CHECK(getsockname(fd, (void *)&s[n - 1].at, &sl));
		CHECK(listen(fd, 3));
		sl = sizeof s[n].at;
	}
	struct stat st;
	do {
		for (int i = 0; i < n; i++)
			look(i);
		CHECK(stat("p.sock", &st));
		obs("file %o %d %d", st.st_mode, st.st_uid, st.st_gid);
	} while (savepoint());
	fill(0), fill(1), fill(2);
	for (int i = 0; i < n - 2; i++)
		serve(i);
	close(s[n - 1].fd);
	serve(n - 2);
	savepoint();
	return 0;
}
