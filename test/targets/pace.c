// A TCP connection that has found out how fast its path is, and takes part in ECN.
#include "ctl.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#define SYSCTL "/proc/sys/net/ipv4/tcp_ecn"

static void put(const char *text) {
	int fd = CHECK(open(SYSCTL, O_WRONLY));
	CHECK(write(fd, text, strlen(text)));
	close(fd);
}

// dial connects to a listener, and asks for ECN.
static int dial(struct sockaddr_in *to) {
	char before[16] = "";
	int fd = CHECK(open(SYSCTL, O_RDONLY)), s = CHECK(socket(AF_INET, SOCK_STREAM, 0));
	CHECK(read(fd, before, sizeof before - 1));
	close(fd);
	put("1");
	int r = connect(s, (struct sockaddr *)to, sizeof *to);
	put(before);
	CHECK(r);
	return s;
}

static void look(const char *who, int fd) {
	struct tcp_info i = {0};
	char name[16] = "";
	socklen_t len = sizeof i;
	CHECK(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &i, &len));
	len = sizeof name;
	CHECK(getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &len));
	// With every second that it sends nothing it becomes half as fast, down to 10.
	obs("%s: %s, faster than at its beginning: %d, ECN %d, ECT seen %d", who, name, i.tcpi_snd_cwnd > 10,
	    !!(i.tcpi_options & TCPI_OPT_ECN), !!(i.tcpi_options & TCPI_OPT_ECN_SEEN));
	obs("=%s: threshold %u", who, i.tcpi_snd_ssthresh);
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof a;
	static char b[1 << 16];
	int l = CHECK(socket(AF_INET, SOCK_STREAM, 0));
	CHECK(setsockopt(l, IPPROTO_TCP, TCP_CONGESTION, "reno", 4));
	// Of the largest segments that lo takes, buffers have room for fewer than 80.
	CHECK(setsockopt(l, IPPROTO_TCP, TCP_MAXSEG, &(int){8000}, sizeof(int)));
	CHECK(bind(l, (struct sockaddr *)&a, sizeof a)), CHECK(listen(l, 1));
	CHECK(getsockname(l, (struct sockaddr *)&a, &len));
	int client = dial(&a), server = CHECK(accept(l, NULL, NULL));
	CHECK(fcntl(server, F_SETFL, O_NONBLOCK));
	struct tcp_info i = {0};
	while (i.tcpi_snd_cwnd <= 80) { // a busy machine has it shrink now and then
		for (int i = 0; i < 1000; i++) { // as much as fits, so that the window is what limits it
			while (write(server, b, sizeof b) > 0)
				;
			while (recv(client, b, sizeof b, MSG_DONTWAIT) > 0)
				;
		}
		for (int left = 1; left;) { // until all has arrived
			while (recv(client, b, sizeof b, MSG_DONTWAIT) > 0)
				;
			CHECK(ioctl(server, TIOCOUTQ, &left));
		}
		len = sizeof i;
		CHECK(getsockopt(server, IPPROTO_TCP, TCP_INFO, &i, &len));
	}
	do {
		look("server", server), look("client", client);
	} while (savepoint());
	CHECK(write(server, "x", 1));
	MUST(recv(client, b, 1, 0) == 1 && *b == 'x');
	return 0;
}
