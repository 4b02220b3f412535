// Programs of BPF at sockets: filters of eBPF, with traffic, and programs that
// choose among sockets of one port, whose order counts.
#include "ctl.h"
#include <arpa/inet.h>
#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/magic.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/vfs.h>

enum { MEMBERS = 4 };

// load loads a filter of eBPF that returns a number, or less.
static int load(int n) {
	struct bpf_insn code[] = {{BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, n}, {BPF_JMP | BPF_EXIT, 0, 0, 0, 0}};
	union bpf_attr a = {.prog_type = BPF_PROG_TYPE_SOCKET_FILTER, .insn_cnt = 2};
	a.insns = (uintptr_t)code, a.license = (uintptr_t) "GPL";
	return CHECK(syscall(SYS_bpf, BPF_PROG_LOAD, &a, sizeof a));
}

static void attach(int fd, int opt, int program) {
	CHECK(setsockopt(fd, SOL_SOCKET, opt, &program, sizeof program));
	close(program);
}

// member returns a socket that shares a port with others; 0 is any port.
static int member(int type, struct sockaddr_in *at) {
	int fd = CHECK(socket(AF_INET, type | SOCK_NONBLOCK, 0)), on = 1;
	CHECK(setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on));
	CHECK(bind(fd, (void *)at, sizeof *at));
	if (type == SOCK_STREAM)
		CHECK(listen(fd, 8));
	socklen_t n = sizeof *at;
	CHECK(getsockname(fd, (void *)at, &n));
	return fd;
}

static void group(int type, int *fds, struct sockaddr_in *at) {
	*at = (struct sockaddr_in){AF_INET, 0, {htonl(INADDR_LOOPBACK)}, {0}};
	// The last place goes to whom the order of descriptors doesn't tell.
	fds[2] = member(type, at);
	for (int i = 0; i < MEMBERS; i++)
		if (i != 2)
			fds[i] = member(type, at);
}

static void send_to(struct sockaddr_in *at, const char *text) {
	int fd = CHECK(socket(AF_INET, SOCK_DGRAM, 0));
	CHECK(sendto(fd, text, strlen(text), 0, (void *)at, sizeof *at));
	close(fd);
}

// who notes which members get something, and what of it.
static void who(const char *name, int type, int *fds, struct sockaddr_in *at) {
	for (int round = 0; round < 4; round++) {
		char text[] = "0123456789", buf[100];
		*text = round;
		int c = CHECK(socket(AF_INET, type, 0));
		CHECK(connect(c, (void *)at, sizeof *at));
		if (type == SOCK_DGRAM)
			CHECK(send(c, text, 10, 0));
		struct pollfd p[MEMBERS];
		for (int i = 0; i < MEMBERS; i++)
			p[i] = (struct pollfd){fds[i], POLLIN, 0};
		CHECK(poll(p, MEMBERS, -1));
		for (int i = 0; i < MEMBERS; i++)
			if (p[i].revents) {
				ssize_t n = type == SOCK_DGRAM ? recv(fds[i], buf, sizeof buf, 0) : 0;
				if (type == SOCK_STREAM)
					close(CHECK(accept(fds[i], NULL, NULL)));
				obs("%s %d: member %d got %zd", name, round, i, n);
			}
		close(c);
	}
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	// Most systems have it.
	struct statfs at_pins;
	CHECK(statfs("/sys/fs/bpf", &at_pins));
	if (at_pins.f_type != BPF_FS_MAGIC)
		CHECK(mount("bpf", "/sys/fs/bpf", "bpf", 0, NULL));
	int udp[MEMBERS], tcp[MEMBERS], by[MEMBERS];
	struct sockaddr_in at[4];
	group(SOCK_DGRAM, udp, &at[0]), group(SOCK_STREAM, tcp, &at[1]), group(SOCK_DGRAM, by, &at[2]);
	// The first byte of the datagram, and a number of eBPF, say which.
	struct sock_filter first[] = {BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 0), BPF_STMT(BPF_RET | BPF_A, 0)};
	struct sock_fprog chooser = {2, first};
	CHECK(setsockopt(udp[1], SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &chooser, sizeof chooser));
	struct sock_filter third[] = {BPF_STMT(BPF_RET | BPF_K, 2)};
	struct sock_fprog always = {1, third};
	CHECK(setsockopt(tcp[0], SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &always, sizeof always));
	attach(by[3], SO_ATTACH_REUSEPORT_EBPF, load(3));
	at[3] = (struct sockaddr_in){AF_INET, 0, {htonl(INADDR_LOOPBACK)}, {0}};
	int cut = member(SOCK_DGRAM, &at[3]), raw = CHECK(socket(AF_INET, SOCK_RAW | SOCK_NONBLOCK, 253));
	attach(cut, SO_ATTACH_BPF, load(8 + 4));
	attach(raw, SO_ATTACH_BPF, load(0));
	int packet = CHECK(socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, htons(0x88b7)));
	attach(packet, SO_ATTACH_BPF, load(100));
	int fans[2], program = load(1);
	struct sockaddr_ll lo = {.sll_family = AF_PACKET, .sll_protocol = htons(0x88b8), .sll_ifindex = if_nametoindex("lo"), .sll_halen = 6};
	for (int i = 0; i < 2; i++) {
		fans[i] = CHECK(socket(AF_PACKET, SOCK_DGRAM | SOCK_NONBLOCK, 0));
		CHECK(bind(fans[i], (void *)&lo, sizeof lo));
		int how = 0x4321 | PACKET_FANOUT_EBPF << 16;
		CHECK(setsockopt(fans[i], SOL_PACKET, PACKET_FANOUT, &how, sizeof how));
	}
	CHECK(setsockopt(fans[0], SOL_PACKET, PACKET_FANOUT_DATA, &program, sizeof program));
	close(program);
	int local[2];
	CHECK(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, local));
	attach(local[0], SO_ATTACH_BPF, load(3));
	int on = 1;
	CHECK(setsockopt(cut, SOL_SOCKET, SO_LOCK_FILTER, &on, sizeof on));
	do {
		who("udp", SOCK_DGRAM, udp, &at[0]), who("tcp", SOCK_STREAM, tcp, &at[1]), who("ebpf", SOCK_DGRAM, by, &at[2]);
		char buf[100];
		send_to(&at[3], "all of these bytes");
		obs("cut: %zd, to be off: %d", recv(cut, buf, sizeof buf, MSG_WAITALL), setsockopt(cut, SOL_SOCKET, SO_DETACH_FILTER, &on, sizeof on));
		CHECK(sendto(fans[0], "fan", 3, 0, (void *)&lo, sizeof lo));
		struct pollfd fan = {fans[1], POLLIN, 0};
		CHECK(poll(&fan, 1, -1));
		obs("fan: %zd %zd", recv(fans[0], buf, sizeof buf, 0), recv(fans[1], buf, sizeof buf, 0));
		while (recv(fans[1], buf, sizeof buf, 0) >= 0)
			;
		CHECK(send(local[1], "abcdef", 6, 0));
		obs("unix: %zd", recv(local[0], buf, sizeof buf, 0));
		struct sockaddr_in here = {AF_INET, 0, {htonl(INADDR_LOOPBACK)}, {0}};
		CHECK(sendto(raw, "x", 1, 0, (void *)&here, sizeof here));
		obs("raw: %zd", recv(raw, buf, sizeof buf, 0));
		socklen_t n = 0;
		errno = 0;
		int none = getsockopt(packet, SOL_SOCKET, SO_GET_FILTER, NULL, &n);
		obs("packet: %d %d", none, errno);
	} while (savepoint());
	return 0;
}
