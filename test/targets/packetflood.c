// Rings of packet sockets while packets come all the time: numbers only grow, and there
// is no end of them. One byte of the file rounds.N for each 100 packets of ring N.
#include "ctl.h"
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>

enum { block = 16384, blocks = 4, frame = 2048, frames = blocks * block / frame, first = 0x88b5 };

static struct ring {
	int version, fd, at;
	char *m;
	uint64_t last, got;
	FILE *rounds;
} rings[] = {{TPACKET_V1}, {TPACKET_V2}, {TPACKET_V3}};

static void make(struct ring *r) {
	int i = r - rings;
	r->fd = CHECK(socket(AF_PACKET, SOCK_DGRAM, 0));
	CHECK(setsockopt(r->fd, SOL_PACKET, PACKET_VERSION, &r->version, sizeof r->version));
	struct tpacket_req3 q = {block, blocks, frame, frames, 5, 0, 0};
	CHECK(setsockopt(r->fd, SOL_PACKET, PACKET_RX_RING, &q, r->version == TPACKET_V3 ? sizeof q : sizeof(struct tpacket_req)));
	r->m = mmap(NULL, blocks * block, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, 0);
	MUST(r->m != MAP_FAILED);
	struct sockaddr_ll a = {.sll_family = AF_PACKET, .sll_protocol = htons(first + i), .sll_ifindex = if_nametoindex("lo"), .sll_halen = 6};
	CHECK(bind(r->fd, (void *)&a, sizeof a));
	char name[16];
	snprintf(name, sizeof name, "rounds.%d", i);
	MUST((r->rounds = fopen(name, "w")));
}

static void take(struct ring *r, const char *data) {
	uint64_t n;
	memcpy(&n, data, sizeof n);
	if (n <= r->last)
		die("ring %d: packet %llu comes behind %llu", (int)(r - rings), (unsigned long long)n, (unsigned long long)r->last);
	r->last = n;
	if (++r->got % 100 == 0)
		fputc('.', r->rounds), fflush(r->rounds);
}

static void all(struct ring *r) {
	for (int i = 0; i < frames; i++, r->at = (r->at + 1) % frames) {
		char *h = r->m + r->at * frame;
		if (!(*(volatile uint32_t *)h & TP_STATUS_USER))
			return;
		__sync_synchronize();
		take(r, h + (r->version == TPACKET_V1 ? ((struct tpacket_hdr *)h)->tp_net : ((struct tpacket2_hdr *)h)->tp_net));
		__sync_synchronize();
		if (r->version == TPACKET_V1)
			*(volatile unsigned long *)h = TP_STATUS_KERNEL;
		else
			*(volatile uint32_t *)h = TP_STATUS_KERNEL;
	}
}

static void all_blocks(struct ring *r) {
	for (int i = 0; i < blocks; i++, r->at = (r->at + 1) % blocks) {
		struct tpacket_block_desc *d = (void *)(r->m + r->at * block);
		volatile uint32_t *status = &d->hdr.bh1.block_status;
		if (!(*status & TP_STATUS_USER))
			return;
		__sync_synchronize();
		char *p = (char *)d + d->hdr.bh1.offset_to_first_pkt;
		for (unsigned n = d->hdr.bh1.num_pkts; n; n--) {
			struct tpacket3_hdr *t = (void *)p;
			take(r, p + t->tp_net);
			MUST(!t->tp_next_offset == (n == 1));
			p += t->tp_next_offset;
		}
		__sync_synchronize();
		*status = TP_STATUS_KERNEL;
	}
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	struct pollfd p[3];
	for (int i = 0; i < 3; i++)
		make(&rings[i]), p[i] = (struct pollfd){rings[i].fd, POLLIN};
	for (;;) {
		CHECK(poll(p, 3, -1));
		all(&rings[0]), all(&rings[1]), all_blocks(&rings[2]);
	}
}
