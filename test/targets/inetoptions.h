// Options of sockets of TCP and UDP, as inetrandom.c sets and reads them.

// What can be set: of all, of TCP, UDP, IPv4 or IPv6 only; from and to which value.
static const struct option {
	int level, opt, type, family, from, to;
} settable[] = {
	{SOL_SOCKET, SO_DEBUG, 0, 0, 0, 1}, {SOL_SOCKET, SO_BROADCAST, 0, 0, 0, 1}, {SOL_SOCKET, SO_SNDBUF, 0, 0, 40000, 90000},
	{SOL_SOCKET, SO_RCVBUF, 0, 0, 60000, 90000}, {SOL_SOCKET, SO_KEEPALIVE, 0, 0, 0, 1}, {SOL_SOCKET, SO_OOBINLINE, 0, 0, 0, 1},
	{SOL_SOCKET, SO_NO_CHECK, 0, 0, 0, 1}, {SOL_SOCKET, SO_PRIORITY, 0, 0, 0, 6}, {SOL_SOCKET, SO_RCVLOWAT, 0, 0, 1, 30},
	{SOL_SOCKET, SO_TIMESTAMP, SOCK_DGRAM, 0, 0, 1}, {SOL_SOCKET, SO_TIMESTAMPNS, SOCK_DGRAM, 0, 0, 1}, {SOL_SOCKET, SO_MARK, 0, 0, 0, 2},
	{SOL_SOCKET, SO_RXQ_OVFL, 0, 0, 0, 1}, {SOL_SOCKET, SO_PEEK_OFF, 0, 0, -1, 10}, {SOL_SOCKET, SO_SELECT_ERR_QUEUE, 0, 0, 0, 1},
	{SOL_SOCKET, SO_BUSY_POLL, 0, 0, 0, 3}, {SOL_SOCKET, SO_INCOMING_CPU, 0, 0, 0, 1}, {SOL_SOCKET, SO_ZEROCOPY, 0, 0, 0, 1},
	{SOL_SOCKET, SO_DONTROUTE, 0, 0, 0, 1}, {SOL_SOCKET, 69, 0, 0, 0, 1}, {SOL_SOCKET, 74, SOCK_STREAM, 0, 0, 1}, {SOL_SOCKET, 75, 0, 0, 0, 1},
	{SOL_SOCKET, SO_WIFI_STATUS, 0, 0, 0, 1}, {SOL_SOCKET, SO_NOFCS, 0, 0, 0, 1}, {SOL_SOCKET, SO_LOCK_FILTER, 0, 0, 0, 0},
	{IPPROTO_TCP, TCP_NODELAY, SOCK_STREAM, 0, 0, 1}, {IPPROTO_TCP, TCP_MAXSEG, SOCK_STREAM, 0, 600, 1400}, {IPPROTO_TCP, TCP_KEEPIDLE, SOCK_STREAM, 0, 50, 99},
	{IPPROTO_TCP, TCP_KEEPINTVL, SOCK_STREAM, 0, 10, 20}, {IPPROTO_TCP, TCP_KEEPCNT, SOCK_STREAM, 0, 2, 9}, {IPPROTO_TCP, TCP_SYNCNT, SOCK_STREAM, 0, 2, 9},
	{IPPROTO_TCP, TCP_LINGER2, SOCK_STREAM, 0, 20, 50}, {IPPROTO_TCP, TCP_WINDOW_CLAMP, SOCK_STREAM, 0, 30000, 60000}, {IPPROTO_TCP, TCP_USER_TIMEOUT, SOCK_STREAM, 0, 60000, 90000},
	{IPPROTO_TCP, TCP_NOTSENT_LOWAT, SOCK_STREAM, 0, 1000, 90000}, {IPPROTO_TCP, TCP_INQ, SOCK_STREAM, 0, 0, 1}, {IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS, SOCK_STREAM, 0, 0, 1},
	{IPPROTO_TCP, TCP_CONGESTION, SOCK_STREAM, 0, 0, 1}, {IPPROTO_TCP, TCP_FASTOPEN, SOCK_STREAM, 0, 1, 5}, {IPPROTO_TCP, 44, SOCK_STREAM, 0, 2000, 90000},
	{IPPROTO_TCP, 45, SOCK_STREAM, 0, 100000, 200000}, {IPPROTO_TCP, 46, SOCK_STREAM, 0, 5000, 40000},
	{IPPROTO_IP, IP_TOS, 0, 0, 0, 255}, {IPPROTO_IP, IP_TTL, 0, 0, 2, 90}, {IPPROTO_IP, IP_RECVOPTS, 0, 0, 0, 1}, {IPPROTO_IP, IP_PKTINFO, 0, 0, 0, 1},
	{IPPROTO_IP, IP_MTU_DISCOVER, 0, 0, 0, 5}, {IPPROTO_IP, IP_RECVERR, 0, 0, 0, 1}, {IPPROTO_IP, IP_RECVTTL, 0, 0, 0, 1}, {IPPROTO_IP, IP_RECVTOS, 0, 0, 0, 1},
	{IPPROTO_IP, IP_FREEBIND, 0, 0, 0, 1}, {IPPROTO_IP, IP_TRANSPARENT, 0, 0, 0, 1}, {IPPROTO_IP, IP_RECVORIGDSTADDR, 0, 0, 0, 1}, {IPPROTO_IP, IP_MINTTL, 0, 0, 0, 60},
	{IPPROTO_IP, IP_CHECKSUM, 0, 0, 0, 1}, {IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 0, 0, 0, 1}, {IPPROTO_IP, IP_RECVFRAGSIZE, SOCK_DGRAM, 0, 0, 1}, {IPPROTO_IP, 26, 0, 0, 0, 1},
	{IPPROTO_IP, IP_MULTICAST_TTL, SOCK_DGRAM, 0, 1, 9}, {IPPROTO_IP, IP_MULTICAST_LOOP, 0, 0, 0, 1}, {IPPROTO_IP, IP_MULTICAST_ALL, 0, 0, 0, 1}, {IPPROTO_IP, IP_PASSSEC, 0, 0, 0, 1},
	{IPPROTO_IP, IP_RETOPTS, 0, 0, 0, 1}, {IPPROTO_IP, IP_UNICAST_IF, 0, 0, 0x1000000, 0x1000000},
	{IPPROTO_IPV6, IPV6_UNICAST_HOPS, 0, AF_INET6, -1, 90}, {IPPROTO_IPV6, IPV6_MULTICAST_HOPS, SOCK_DGRAM, AF_INET6, -1, 9}, {IPPROTO_IPV6, IPV6_MULTICAST_LOOP, 0, AF_INET6, 0, 1},
	{IPPROTO_IPV6, IPV6_MTU_DISCOVER, 0, AF_INET6, 0, 5}, {IPPROTO_IPV6, IPV6_RECVERR, 0, AF_INET6, 0, 1}, {IPPROTO_IPV6, IPV6_V6ONLY, 0, AF_INET6, 0, 1},
	{IPPROTO_IPV6, IPV6_MULTICAST_ALL, 0, AF_INET6, 0, 1}, {IPPROTO_IPV6, 31, 0, AF_INET6, 0, 1}, {IPPROTO_IPV6, 33 /* IPV6_FLOWINFO_SEND */, 0, AF_INET6, 0, 1},
	{IPPROTO_IPV6, IPV6_RECVPKTINFO, 0, AF_INET6, 0, 1}, {IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 0, AF_INET6, 0, 1}, {IPPROTO_IPV6, IPV6_RECVHOPOPTS, 0, AF_INET6, 0, 1},
	{IPPROTO_IPV6, IPV6_RECVRTHDR, 0, AF_INET6, 0, 1}, {IPPROTO_IPV6, IPV6_RECVDSTOPTS, 0, AF_INET6, 0, 1}, {IPPROTO_IPV6, IPV6_RECVPATHMTU, 0, AF_INET6, 0, 1},
	{IPPROTO_IPV6, IPV6_DONTFRAG, 0, AF_INET6, 0, 1}, {IPPROTO_IPV6, IPV6_RECVTCLASS, 0, AF_INET6, 0, 1}, {IPPROTO_IPV6, IPV6_TCLASS, 0, AF_INET6, -1, 255},
	{IPPROTO_IPV6, IPV6_AUTOFLOWLABEL, 0, AF_INET6, 0, 1}, {IPPROTO_IPV6, IPV6_MINHOPCOUNT, 0, AF_INET6, 0, 60}, {IPPROTO_IPV6, IPV6_RECVORIGDSTADDR, 0, AF_INET6, 0, 1},
	{IPPROTO_IPV6, IPV6_TRANSPARENT, 0, AF_INET6, 0, 1}, {IPPROTO_IPV6, IPV6_RECVFRAGSIZE, 0, AF_INET6, 0, 1}, {IPPROTO_IPV6, IPV6_FREEBIND, 0, AF_INET6, 0, 1},
	{IPPROTO_IPV6, IPV6_ADDR_PREFERENCES, 0, AF_INET6, 1, 2}, {IPPROTO_IPV6, IPV6_UNICAST_IF, 0, AF_INET6, 0x1000000, 0x1000000},
	{IPPROTO_IPV6, IPV6_2292PKTINFO, 0, AF_INET6, 0, 1}, {IPPROTO_IPV6, IPV6_2292HOPLIMIT, 0, AF_INET6, 0, 1},
	{IPPROTO_UDP, UDP_NO_CHECK6_TX, SOCK_DGRAM, 0, 0, 1}, {IPPROTO_UDP, UDP_NO_CHECK6_RX, SOCK_DGRAM, 0, 0, 1}, {IPPROTO_UDP, UDP_GRO, SOCK_DGRAM, 0, 0, 1},
	{IPPROTO_UDP, UDP_SEGMENT, SOCK_DGRAM, 0, 0, 1200},
};

static void options(int no) {
	const struct option *o;
	struct rec *r = &sh->r[no];
	do
		o = &settable[rnd(sizeof settable / sizeof *settable)];
	while ((o->type && o->type != r->type) || (o->family && o->family != r->family));
	int v = o->from + (int)rnd(o->to - o->from + 1), n;
	if (o->level == IPPROTO_IPV6 && o->opt == IPV6_V6ONLY && r->met)
		return; // whether it can be set tells whether a port is free yet, see docs/limits.md
	char *cc = v ? "reno" : "cubic";
	if (o->level == IPPROTO_TCP && o->opt == TCP_CONGESTION)
		n = setsockopt(fds[no], o->level, o->opt, cc, strlen(cc));
	else
		n = set(fds[no], o->level, o->opt, v);
	note("option", no, n);
	obs("%d: %d.%d is to be %d", no, o->level, o->opt, v);
}

// unstable are options that tell what differs from run to run, or what is read once.
static int unstable(int level, int opt) {
	static const int of[][2] = {{SOL_SOCKET, SO_ERROR}, {SOL_SOCKET, SO_COOKIE}, {SOL_SOCKET, SO_MEMINFO}, {SOL_SOCKET, SO_PEERCRED}, {SOL_SOCKET, 56 /* SO_INCOMING_NAPI_ID */},
		{SOL_SOCKET, SO_INCOMING_CPU}, {SOL_SOCKET, 71 /* SO_NETNS_COOKIE */}, {SOL_SOCKET, 77 /* SO_PEERPIDFD */},
		{IPPROTO_TCP, TCP_INFO}, {IPPROTO_TCP, TCP_MAXSEG}, {IPPROTO_TCP, TCP_WINDOW_CLAMP}, {IPPROTO_TCP, TCP_CC_INFO}, {IPPROTO_TCP, TCP_TIMESTAMP}, {IPPROTO_TCP, TCP_SAVED_SYN}, {IPPROTO_TCP, TCP_QUICKACK}, {IPPROTO_TCP, TCP_REPAIR_QUEUE},
		{IPPROTO_TCP, TCP_QUEUE_SEQ}, {IPPROTO_TCP, TCP_REPAIR_WINDOW}, {IPPROTO_TCP, 35 /* TCP_ZEROCOPY_RECEIVE */},
		{IPPROTO_IP, IP_PKTOPTIONS}, {IPPROTO_IP, IP_MTU}, {IPPROTO_IPV6, IPV6_MTU}, {IPPROTO_IPV6, IPV6_PATHMTU}, {SOL_SOCKET, SO_PEERNAME}, {IPPROTO_IP, 52 /* IP_PROTOCOL: the port */}, {IPPROTO_IPV6, IPV6_2292PKTOPTIONS}};
	for (unsigned i = 0; i < sizeof of / sizeof *of; i++)
		if (of[i][0] == level && of[i][1] == opt)
			return 1;
	return 0;
}

static const int levels[] = {SOL_SOCKET, IPPROTO_TCP, IPPROTO_IP, IPPROTO_IPV6, IPPROTO_UDP};
enum { OPTS = 106 };
static int usual[4][5][OPTS];

static int kind(int family, int type) { return (family == AF_INET6) * 2 + (type == SOCK_DGRAM); }

// value is what an option tells, or that it tells nothing.
static int value(int fd, int level, int opt) {
	unsigned char b[300];
	socklen_t len = sizeof b;
	int v;
	if (getsockopt(fd, level, opt, b, &len))
		return -1000 - errno;
	if (len == 1)
		return *b;
	if (len == 4)
		return memcpy(&v, b, 4), v;
	return fnv(b, len) & 0x7fffffff;
}

static void defaults(void) {
	for (int k = 0; k < 4; k++) {
		int fd = CHECK(socket(k & 2 ? AF_INET6 : AF_INET, k & 1 ? SOCK_DGRAM : SOCK_STREAM, 0));
		for (int l = 0; l < 5; l++)
			for (int o = 1; o < OPTS; o++)
				usual[k][l][o] = unstable(levels[l], o) ? 0 : value(fd, levels[l], o);
		close(fd);
	}
}

// grows tells of options of TCP that the kernel changes as data comes and goes, unless
// the program has set them, and such as tell of the segment that a connection was made
// with, see docs/limits.md.
static int grows(int level, int opt, int lock) {
	if (level == SOL_SOCKET)
		return (opt == SO_SNDBUF && !(lock & 1)) || (opt == SO_RCVBUF && !(lock & 2));
	return level == IPPROTO_IP ? opt == IP_MULTICAST_TTL || opt == IP_MULTICAST_IF : level == IPPROTO_IPV6 && (opt == IPV6_MULTICAST_IF || opt == IPV6_MULTICAST_HOPS);
}

// readall notes which options of a socket tell something else than those of a new one.
static void readall(int no) {
	char line[4000];
	struct rec *r = &sh->r[no];
	int p = 0, k = kind(r->family, r->type), v, lock = value(fds[no], SOL_SOCKET, 72 /* SO_BUF_LOCK */);
	for (int l = 0; l < 5; l++)
		for (int o = 1; o < OPTS; o++)
			if (!unstable(levels[l], o) && !(grows(levels[l], o, lock) && r->type == SOCK_STREAM) && (v = value(fds[no], levels[l], o)) != usual[k][l][o] && p < 3900)
				p += sprintf(line + p, " %d.%d=%d", levels[l], o, v);
	line[p] = 0;
	obs("%d: %d:%s", me, no, line);
}
