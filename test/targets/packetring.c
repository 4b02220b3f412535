// Rings that a packet socket shares with its process (PACKET_RX_RING, PACKET_TX_RING):
// mapped where they were, with what was in them, and they go on.
#include "ctl.h"
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>

enum { block = 8192, blocks = 2, frame = 2048, frames = blocks * block / frame, both = 2 * blocks * block };

static int ring(int version, uint16_t protocol, int sort, int index, char **m) {
	int fd = CHECK(socket(AF_PACKET, SOCK_RAW, 0));
	CHECK(setsockopt(fd, SOL_PACKET, PACKET_VERSION, &version, sizeof version));
	struct tpacket_req3 r = {block, blocks, frame, frames, 0, 0, 0};
	if (version == TPACKET_V3)
		r.tp_retire_blk_tov = 1;
	socklen_t n = version == TPACKET_V3 ? sizeof r : sizeof(struct tpacket_req);
	CHECK(setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &r, n));
	r.tp_retire_blk_tov = 0;
	CHECK(setsockopt(fd, SOL_PACKET, PACKET_TX_RING, &r, n));
	static char *at_address = (char *)0x200000000; // the same in every run
	*m = mmap(at_address, both, PROT_READ | PROT_WRITE, sort | MAP_FIXED_NOREPLACE, fd, 0);
	MUST(*m == at_address);
	at_address += 2 * both;
	struct sockaddr_ll at = {.sll_family = AF_PACKET, .sll_protocol = htons(protocol), .sll_ifindex = index, .sll_halen = 6};
	CHECK(bind(fd, (void *)&at, sizeof at));
	return fd;
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	int lo = if_nametoindex("lo");
	char *two, *three, *private;
	int a = ring(TPACKET_V2, 0x88b5, MAP_SHARED, lo, &two);
	ring(TPACKET_V3, 0x88b6, MAP_SHARED, lo, &three);
	ring(TPACKET_V1, 0x88b7, MAP_PRIVATE, lo, &private);
	// What the process has laid ready behind the first place to send from.
	char *ready = two + blocks * block + frame;
	snprintf(ready + 128, 64, "laid ready");
	do {
		struct tpacket2_hdr *first = (void *)two;
		struct tpacket_block_desc *d = (void *)three;
		obs("ready: %s", ready + 128);
		obs("two: %u at %p", first->tp_status, (void *)two);
		obs("three: %u, %u packets, number %llu at %p", d->hdr.bh1.block_status, d->hdr.bh1.num_pkts, (unsigned long long)d->hdr.bh1.seq_num, (void *)three);
		obs("private: %lu at %p", ((struct tpacket_hdr *)private)->tp_status, (void *)private);
	} while (savepoint());
	// Only behind the last savepoint: the kernel goes on where a new ring begins.
	struct sockaddr_ll here = {.sll_family = AF_PACKET, .sll_ifindex = lo, .sll_halen = 6, .sll_protocol = htons(0x88b5)};
	int out = CHECK(socket(AF_PACKET, SOCK_RAW, 0)); // one with a ring sends what is in it
	CHECK(sendto(out, "\0\0\0\0\0\0\0\0\0\0\0\0\x88\xb5to two", 20, 0, (void *)&here, sizeof here));
	struct pollfd p = {a, POLLIN, 0};
	CHECK(poll(&p, 1, -1));
	struct tpacket2_hdr *h = (void *)two;
	obs("got: %d %.6s", !!(h->tp_status & TP_STATUS_USER), (char *)h + h->tp_mac + 14);
	return 0;
}
