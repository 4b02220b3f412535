// Rings of packet sockets that packets have gone through: what was not read is read, and
// what comes then comes behind it, round after round.
#include "ctl.h"
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>

enum { block = 8192, blocks = 4, frame = 2048, frames = blocks * block / frame, first = 0x88b5 };

static struct ring {
	const char *name;
	int version, type, fd, at, left;
	char *m, *packet; // the next one in a block
	uint64_t number;
	unsigned sent, got, room;
} rings[] = {
	{"one", TPACKET_V1, SOCK_RAW}, {"two", TPACKET_V2, SOCK_RAW}, {"cooked", TPACKET_V2, SOCK_DGRAM}, {"blocks", TPACKET_V3, SOCK_RAW}, {"cooked blocks", TPACKET_V3, SOCK_DGRAM},
	{"reserve", TPACKET_V3, SOCK_RAW, .room = 100}, {"full", TPACKET_V2, SOCK_RAW}, {"full blocks", TPACKET_V3, SOCK_RAW}, {"one block", TPACKET_V3, SOCK_RAW},
};

// What the process sends by rings, and who gets it.
static struct sender {
	const char *name;
	int version, type, fd, in, at, sent, header;
	char *m;
} senders[] = {
	{"first", TPACKET_V1, SOCK_RAW}, {"second", TPACKET_V2, SOCK_RAW}, {"third", TPACKET_V3, SOCK_RAW}, {"cooked second", TPACKET_V2, SOCK_DGRAM}, {"with header", TPACKET_V2, SOCK_RAW, .header = 10},
};

static int protocol(struct ring *r) { return first + (r - rings); }

static struct sockaddr_ll here(struct ring *r) {
	return (struct sockaddr_ll){.sll_family = AF_PACKET, .sll_protocol = htons(protocol(r)), .sll_ifindex = if_nametoindex("lo"), .sll_halen = 6};
}

static unsigned many(struct ring *r) { return r->version == TPACKET_V3 && strstr(r->name, "one") ? 1 : blocks; }

static void make(struct ring *r) {
	r->fd = CHECK(socket(AF_PACKET, r->type, 0));
	CHECK(setsockopt(r->fd, SOL_PACKET, PACKET_VERSION, &r->version, sizeof r->version));
	CHECK(setsockopt(r->fd, SOL_PACKET, PACKET_RESERVE, &r->room, sizeof r->room));
	unsigned patience = !strncmp(r->name, "full", 4) ? 60000 : 20; // ms, until a block that isn't full is given away
	struct tpacket_req3 q = {block, many(r), frame, many(r) * block / frame, patience, 8 * r->room, 0};
	CHECK(setsockopt(r->fd, SOL_PACKET, PACKET_RX_RING, &q, r->version == TPACKET_V3 ? sizeof q : sizeof(struct tpacket_req)));
	r->m = mmap(NULL, many(r) * block, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, 0);
	MUST(r->m != MAP_FAILED);
	struct sockaddr_ll a = here(r);
	CHECK(bind(r->fd, (void *)&a, sizeof a));
}

static void send_to(struct ring *r, int n, size_t len) {
	static int out;
	if (!out)
		out = CHECK(socket(AF_PACKET, SOCK_DGRAM, 0));
	struct sockaddr_ll a = here(r);
	while (n--) {
		char b[4096] = "";
		snprintf(b, sizeof b, "%s #%u", r->name, r->sent++);
		CHECK(sendto(out, b, len, 0, (void *)&a, sizeof a));
	}
}

static void await(struct ring *r) {
	struct pollfd p = {r->fd, POLLIN, 0};
	CHECK(poll(&p, 1, -1));
}

static void tell(struct ring *r, char *data, size_t cooked, struct sockaddr_ll *from) {
	obs("%s: %s from %d, protocol %x, type %d", r->name, data + (r->type == SOCK_RAW ? cooked : 0), from->sll_ifindex, ntohs(from->sll_protocol), from->sll_pkttype);
}

// next reads a packet of V1 or V2, if there is one.
static int next(struct ring *r, int wait) {
	char *h = r->m + r->at * frame;
	volatile unsigned long *one = (void *)h;
	volatile uint32_t *two = (void *)h;
	int is = r->version == TPACKET_V1 ? *one & TP_STATUS_USER : *two & TP_STATUS_USER;
	if (!is && !wait)
		return 0;
	while (!(*two & TP_STATUS_USER))
		await(r);
	if (r->version == TPACKET_V1) {
		struct tpacket_hdr *t = (void *)h;
		tell(r, h + t->tp_mac, 14, (void *)(h + TPACKET_ALIGN(sizeof *t)));
		*one = TP_STATUS_KERNEL;
	} else {
		struct tpacket2_hdr *t = (void *)h;
		tell(r, h + t->tp_mac, 14, (void *)(h + TPACKET_ALIGN(sizeof *t)));
		*two = TP_STATUS_KERNEL;
	}
	r->at = (r->at + 1) % frames;
	return 1;
}

// next3 reads a packet of a block.
static int next3(struct ring *r, int wait) {
	struct tpacket_block_desc *d = (void *)(r->m + r->at * block);
	volatile uint32_t *status = &d->hdr.bh1.block_status;
	if (!r->left) {
		if (!(*status & TP_STATUS_USER) && !wait)
			return 0;
		while (!(*status & TP_STATUS_USER))
			await(r);
		MUST(d->hdr.bh1.seq_num == ++r->number);
		MUST((r->left = d->hdr.bh1.num_pkts));
		r->packet = (char *)d + d->hdr.bh1.offset_to_first_pkt;
	}
	struct tpacket3_hdr *t = (void *)r->packet;
	tell(r, r->packet + t->tp_mac, 14, (void *)(r->packet + TPACKET_ALIGN(sizeof *t)));
	MUST(!t->tp_next_offset == !--r->left);
	r->packet += t->tp_next_offset;
	if (!r->left) {
		*status = TP_STATUS_KERNEL;
		r->at = (r->at + 1) % many(r);
	}
	return 1;
}

static int get(struct ring *r, int wait) {
	int is = r->version == TPACKET_V3 ? next3(r, wait) : next(r, wait);
	r->got += is;
	return is;
}

static int is_full(struct ring *r) { return !strncmp(r->name, "full", 4); }

// go_on leaves one packet unread, or sends more than there is room for.
static void go_on(struct ring *r) {
	if (many(r) == 1) { // which has no room for more while one is read
		while (r->got < r->sent)
			get(r, 1);
		for (int i = 0; i < 2; i++) {
			send_to(r, 1, 700);
			if (!i)
				get(r, 1);
		}
		return;
	}
	send_to(r, is_full(r) ? 20 : 6, is_full(r) ? 1900 : 700);
	for (int i = 0; i < (is_full(r) ? 9 : 5); i++)
		get(r, 1);
}

static struct sockaddr_ll to(struct sender *s) {
	return (struct sockaddr_ll){.sll_family = AF_PACKET, .sll_protocol = htons(first + 100 + (s - senders)), .sll_ifindex = if_nametoindex("lo"), .sll_halen = 6};
}

static void make_sender(struct sender *s) {
	struct sockaddr_ll a = to(s);
	s->in = CHECK(socket(AF_PACKET, SOCK_DGRAM, 0));
	CHECK(bind(s->in, (void *)&a, sizeof a));
	s->fd = CHECK(socket(AF_PACKET, s->type, 0));
	CHECK(setsockopt(s->fd, SOL_PACKET, PACKET_VERSION, &s->version, sizeof s->version));
	if (s->header)
		CHECK(setsockopt(s->fd, SOL_PACKET, PACKET_VNET_HDR, &(int){1}, sizeof(int)));
	struct tpacket_req3 q = {block, blocks, frame, frames, 0, 0, 0};
	CHECK(setsockopt(s->fd, SOL_PACKET, PACKET_TX_RING, &q, s->version == TPACKET_V3 ? sizeof q : sizeof(struct tpacket_req)));
	s->m = mmap(NULL, blocks * block, PROT_READ | PROT_WRITE, MAP_SHARED, s->fd, 0);
	MUST(s->m != MAP_FAILED);
}

// put lays a packet ready.
static void put(struct sender *s) {
	char *h = s->m + s->at * frame, text[32];
	int n = snprintf(text, sizeof text, "%s #%d", s->name, s->sent++), head = s->header + (s->type == SOCK_RAW ? 14 : 0);
	char *data = h + (s->version == TPACKET_V3 ? 48 : 32);
	memset(data, 0, head);
	if (s->type == SOCK_RAW)
		*(uint16_t *)(data + s->header + 12) = to(s).sll_protocol;
	memcpy(data + head, text, n);
	if (s->version == TPACKET_V1)
		((struct tpacket_hdr *)h)->tp_len = head + n, ((struct tpacket_hdr *)h)->tp_status = TP_STATUS_SEND_REQUEST;
	else if (s->version == TPACKET_V2)
		((struct tpacket2_hdr *)h)->tp_len = head + n, ((struct tpacket2_hdr *)h)->tp_status = TP_STATUS_SEND_REQUEST;
	else
		((struct tpacket3_hdr *)h)->tp_len = head + n, ((struct tpacket3_hdr *)h)->tp_next_offset = 0, ((struct tpacket3_hdr *)h)->tp_status = TP_STATUS_SEND_REQUEST;
	s->at = (s->at + 1) % frames;
}

// hand_over sends what is ready: what was laid ready in the round before, too.
static void hand_over(struct sender *s) {
	struct sockaddr_ll a = to(s);
	for (int i = 0; i < 4; i++)
		put(s);
	CHECK(sendto(s->fd, NULL, 0, 0, (void *)&a, sizeof a));
	char b[64];
	for (ssize_t n; (n = recv(s->in, b, sizeof b, MSG_DONTWAIT)) >= 0;)
		obs("%s: %.*s", s->name, (int)n, b);
	put(s);
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	int count = sizeof rings / sizeof *rings;
	for (struct ring *r = rings; r < rings + count; r++)
		make(r);
	int out = sizeof senders / sizeof *senders;
	for (struct sender *s = senders; s < senders + out; s++)
		make_sender(s);
	do {
		for (struct sender *s = senders; s < senders + out; s++)
			hand_over(s);
		for (struct ring *r = rings; r < rings + count; r++)
			go_on(r);
	} while (savepoint());
	for (struct ring *r = rings; r < rings + count; r++) {
		if (!is_full(r) && many(r) > 1)
			send_to(r, 1, 700);
		while (is_full(r) ? get(r, 0) : r->got < r->sent && get(r, 1))
			;
	}
	return 0;
}
