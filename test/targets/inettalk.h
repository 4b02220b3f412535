// What the tasks of inetrandom.c do with a socket that there is: send and receive, pass it on,
// shut it down, reset it. It is a part of that file.

static unsigned char byte(int no, uint64_t at) {
	uint64_t x = (at + 1) * 0x9e3779b97f4a7c15 + no * 31;
	return x >> 40 ^ x >> 13;
}

static void sends(int no, int late) {
	static unsigned char b[40000];
	static const unsigned sizes[] = {1, 5, 100, 1000, 3000, 7000, 9000};
	struct rec *r = &sh->r[no];
	unsigned size = sizes[rnd(r->type == SOCK_DGRAM ? 5 : 7)], how = rnd(10), t = rnd(2) ? -1 : to(no, 0);
	if (r->type == SOCK_DGRAM && rnd(12) == 0)
		size = 0;
	int flags = MSG_NOSIGNAL | MSG_DONTWAIT;
	if (r->sent - (r->peer >= 0 ? sh->r[r->peer].got : 0) > 12000 || r->fuzzy)
		return;
	if (how == 0 && r->type == SOCK_STREAM)
		flags |= MSG_OOB, size = 1 + rnd(3), r->oob = 1;
	if (late && how < 5)
		flags |= MSG_MORE;
	for (unsigned i = 0; i < size; i++)
		b[i] = byte(no, r->sent + i);
	union addr a;
	socklen_t len = 0;
	if (r->type == SOCK_DGRAM && (int)t >= 0)
		len = fill(&a, calls[sh->r[t].bound], sh->r[t].port);
	long v = sendto(fds[no], b, size, flags, len ? &a.sa : NULL, len);
	note(flags & MSG_OOB ? "urgent" : "send", no, v);
	if (len)
		obs("%d to %d", no, t);
	if (v > 0)
		r->sent += v;
	settle();
	if (r->type == SOCK_STREAM && !late)
		calm(no, 300), settle();
}

// floods sends as much as there is room for, which is not the same each time.
static void floods(int no) {
	static unsigned char b[100000];
	struct rec *r = &sh->r[no];
	if (r->peer < 0 || r->oob || sh->r[r->peer].oob || sh->r[r->peer].peer != no)
		return;
	r->fuzzy = sh->r[r->peer].fuzzy = 1;
	for (unsigned i = 0; i < sizeof b; i++)
		b[i] = byte(no, r->sent + i);
	long v = send(fds[no], b, sizeof b, MSG_NOSIGNAL | MSG_DONTWAIT);
	note("flood", no, v > 0 ? 0 : errno == EAGAIN ? 0 : v);
	r->sent += v > 0 ? v : 0;
	settle();
}

static void cmsgs(struct msghdr *m) {
	char text[80];
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		int v = 0, n = c->cmsg_len - CMSG_LEN(0);
		memcpy(&v, CMSG_DATA(c), n < 4 ? n : 4);
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type != SO_MARK && c->cmsg_type != SO_PRIORITY)
			v = 0; // a time
		if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
			struct in_pktinfo *p = (void *)CMSG_DATA(c);
			obs("  info %d %x %x", p->ipi_ifindex, p->ipi_spec_dst.s_addr, p->ipi_addr.s_addr);
		} else if ((c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_RECVERR) || (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_RECVERR)) {
			struct sock_extended_err *e = (void *)CMSG_DATA(c);
			obs("  error %u of %d type %d code %d info %u %u from %s", e->ee_errno, e->ee_origin, e->ee_type, e->ee_code, e->ee_info, e->ee_data, name(text, (void *)SO_EE_OFFENDER(e), 1));
		} else
			obs("  control %d %d of %d: %x, %016llx", c->cmsg_level, c->cmsg_type, n, c->cmsg_type == IP_ORIGDSTADDR || c->cmsg_level == SOL_SOCKET ? 0 : v, 0ull);
	}
}

static long receives(int no, int all) {
	static unsigned char b[40000], control[1000];
	char text[80];
	struct rec *r = &sh->r[no];
	union addr a;
	struct iovec v = {b, all ? sizeof b : 1 + rnd(4000)};
	struct msghdr m = {&a, sizeof a, &v, 1, control, sizeof control, 0};
	int flags = all ? 0 : (int[]){0, 0, 0, MSG_PEEK, MSG_OOB, MSG_ERRQUEUE, MSG_TRUNC}[rnd(7)];
	if (r->type == SOCK_STREAM && flags == MSG_TRUNC)
		flags = 0;
	if (all == 2)
		flags = MSG_ERRQUEUE;
	long n = recvmsg(fds[no], &m, MSG_DONTWAIT | flags);
	if (r->fuzzy) {
	} else if (n < 0)
		obs("%d: receive %d flags %x: %s", me, no, flags, strerror(errno));
	else {
		long have = n > (long)v.iov_len ? (long)v.iov_len : n;
		obs("%d: receive %d flags %x: %ld %016llx %x from %s", me, no, flags, n, (unsigned long long)fnv(b, have), m.msg_flags & ~MSG_CMSG_CLOEXEC, r->type == SOCK_DGRAM ? name(text, &a, m.msg_namelen) : "");
		cmsgs(&m);
	}
	if (r->type == SOCK_STREAM && n > 0 && !(flags & (MSG_PEEK | MSG_OOB | MSG_ERRQUEUE))) {
		int p = r->peer;
		for (long i = 0; p >= 0 && !sh->r[p].oob && i < n; i++)
			if (b[i] != byte(p, r->got + i))
				die("socket %d: byte %llu of %d is wrong", no, (unsigned long long)(r->got + i), p);
		r->got += n;
	}
	settle();
	return n;
}

static void drop(int no) {
	struct rec *r = &sh->r[no];
	r->refs--;
	note("close", no, close(fds[no]));
	fds[no] = -1;
	settle();
}

static void passes(int no) {
	int t = rnd(tasks);
	if (t == OUTSIDE || me == OUTSIDE || tasks < 3)
		return;
	char control[CMSG_SPACE(sizeof(int))];
	struct iovec v = {&no, sizeof no};
	struct msghdr m = {NULL, 0, &v, 1, control, sizeof control, 0};
	struct cmsghdr *c = (void *)control;
	memset(control, 0, sizeof control);
	c->cmsg_level = SOL_SOCKET, c->cmsg_type = SCM_RIGHTS, c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fds[no], sizeof(int));
	note("pass", no, sendmsg(mail[t][0], &m, MSG_DONTWAIT));
	sh->r[no].refs++;
}

static int takes(void) {
	char control[CMSG_SPACE(sizeof(int))];
	int no = -1, fd;
	struct iovec v = {&no, sizeof no};
	struct msghdr m = {NULL, 0, &v, 1, control, sizeof control, 0};
	if (me == OUTSIDE || recvmsg(mail[me][1], &m, MSG_DONTWAIT) < 0)
		return 0;
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof fd);
	note("take", no, 0);
	if (fds[no] >= 0)
		close(fd), sh->r[no].refs--;
	else
		fds[no] = fd;
	return 1;
}

static void watches(int no) {
	struct epoll_event e = {(uint32_t[]){EPOLLIN, EPOLLOUT, EPOLLIN | EPOLLRDHUP | EPOLLPRI, 0}[rnd(4)], {.u32 = no}};
	note("watch", no, epoll_ctl(ep, (int[]){EPOLL_CTL_ADD, EPOLL_CTL_ADD, EPOLL_CTL_MOD, EPOLL_CTL_DEL}[rnd(4)], fds[no], &e));
}

static void resets(int no) {
	struct linger l = {1, 0};
	note("linger", no, setsockopt(fds[no], SOL_SOCKET, SO_LINGER, &l, sizeof l));
}

static void disconnects(int no) {
	struct rec *r = &sh->r[no];
	union addr a = {.sa.sa_family = AF_UNSPEC};
	int v;
	if (r->waits || r->backlog >= 0 || (r->met && !r->own))
		return;
	if (r->type == SOCK_DGRAM && port(fds[no], 0) > 0 && !r->own)
		return; // it gives up a port of the kernel's choice, see docs/limits.md
	note("disconnect", no, v = connect(fds[no], &a.sa, sizeof a.sa));
	settle();
	if (v == 0)
		r->unconfirmed = 0, r->target = -1, r->lost |= !r->own || r->type == SOCK_STREAM, r->ended = 0, r->peer = -1, r->oob = 1;
}

static void shuts(int no) {
	struct rec *r = &sh->r[no];
	int how = rnd(3);
	if (r->waits)
		return;
	if (r->fuzzy && how != SHUT_WR)
		return; // what of a flood comes afterwards resets it
	note((char *[]){"shut in", "shut out", "shut"}[how], no, shutdown(fds[no], how));
	if (how != SHUT_WR && r->backlog >= 0)
		r->backlog = -1, r->queued = 0, r->hole = 0;
	settle();
}
