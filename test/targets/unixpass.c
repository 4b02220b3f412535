// Messages that wait with what an option lets a receiver see of them: the
// sender's pidfd (SO_PASSPIDFD), of this process, of a child and of one that has
// ended; no files where those are refused (SO_PASSRIGHTS); times (SO_TIMESTAMP*); how much more
// there is (SO_INQ). Each is on while it is sent, or only when it is read.
#include "unix.h"

enum { PASSPIDFD = 76, PASSRIGHTS = 83, INQ = 84 };

// whose tells of which process a pidfd is.
static const char *whose(int fd) {
	static char line[100], path[40];
	int pid = 0;
	sprintf(path, "/proc/self/fdinfo/%d", fd);
	FILE *f = fopen(path, "r");
	while (f && fgets(line, sizeof line, f))
		sscanf(line, "Pid: %d", &pid);
	fclose(f);
	return pid < 0 ? "a process that has ended" : process(pid);
}

// get notes one message.
static void get(const char *name, int fd) {
	char data[100], control[2000], line[1000] = "";
	struct iovec v = {data, sizeof data};
	struct msghdr m = {NULL, 0, &v, 1, control, sizeof control, 0};
	ssize_t n = recvmsg(fd, &m, MSG_DONTWAIT);
	int p = 0, got;
	for (struct cmsghdr *c = n < 0 ? NULL : CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
		memcpy(&got, CMSG_DATA(c), sizeof got);
		p += sprintf(line + p, ", %d of %d bytes", c->cmsg_type, (int)c->cmsg_len);
		if (c->cmsg_type == 4 /* SCM_PIDFD */)
			p += sprintf(line + p, " of %s", got < 0 ? strerror(-got) : whose(got));
		if (c->cmsg_type == INQ)
			p += sprintf(line + p, " %d", got);
		if (c->cmsg_type == 4 || c->cmsg_type == SCM_RIGHTS)
			close(got);
	}
	obs("%s: %zd %.*s flags %x%s", name, n, (int)(n > 0 ? n : 0), data, m.msg_flags, line);
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	static char names[40][60];
	int types[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET}, opts[] = {PASSPIDFD, SO_PASSCRED, SO_TIMESTAMP, SO_TIMESTAMPNS, PASSRIGHTS, INQ};
	int p[2], file = CHECK(open("file", O_RDWR | O_CREAT, 0644)), n = 0;
	static int from[40], late[40];
	for (int t = 0; t < 3; t++)
		for (int o = 0; o < 6; o++)
			for (int l = 0; l < 2; l++, n++) {
				int on = opts[o] != PASSRIGHTS;
				CHECK(socketpair(AF_UNIX, types[t], 0, p));
				sprintf(names[n], "type %d, option %d, set %s", types[t], opts[o], l ? "late" : "early");
				late[n] = l ? opts[o] : 0, from[n] = p[0];
				if (opts[o] == PASSRIGHTS)
					with(p[0], "files", 5, &file, 1, NULL);
				if (!l)
					obs("%s: %d", names[n], setsockopt(p[1], SOL_SOCKET, opts[o], &on, sizeof on));
				sk[n].name = names[n], sk[n].fd = p[1];
			}
	sks = n;
	int ready[2];
	CHECK(pipe(ready));
	for (int child = 0; child < 3; child++) {
		pid_t pid = child ? CHECK(fork()) : 0;
		if (pid) {
			known[knowns++] = pid;
			CHECK(read(ready[0], p, 1));
			continue;
		}
		for (int i = 0; i < n; i++)
			CHECK(send(from[i], &"self.kid..dead."[5 * child], 5, 0));
		if (!child)
			continue;
		CHECK(write(ready[1], "!", 1));
		child == 1 ? pause() : 0, _exit(0);
	}
	CHECK(waitpid(known[1], NULL, 0));
	close(ready[0]), close(ready[1]);
	do
		look_all();
	while (savepoint());
	for (int i = 0; i < n; i++) {
		int on = late[i] != PASSRIGHTS;
		if (late[i])
			obs("%s: %d", names[i], setsockopt(sk[i].fd, SOL_SOCKET, late[i], &on, sizeof on));
		for (int k = 0; k < 5; k++)
			get(names[i], sk[i].fd);
		obs("%s: files %zd", names[i], send(from[i], "", 0, MSG_NOSIGNAL));
	}
	CHECK(kill(known[0], SIGKILL)), CHECK(waitpid(known[0], NULL, 0));
	savepoint();
	return 0;
}
