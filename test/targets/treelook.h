// What treerandom.c sees of its tasks: from outside, by /proc, and from inside.
#include <linux/kcmp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/time.h>

// Numbers that a restore may change, and those that another run has otherwise, have names:
// the order in which they are seen.
static struct {
	char text[120];
} seen[2000];
static int nseen;

static int number(const char *text) {
	for (int i = 0; i < nseen; i++)
		if (!strcmp(seen[i].text, text))
			return i;
	MUST(nseen < 2000);
	return snprintf(seen[nseen].text, sizeof seen->text, "%s", text), nseen++;
}

// plain is a path as another run has it, too.
static void plain(const char *link, char *out) {
	size_t n = strlen(ctl_dir);
	const char *p = strstr(link, " (deleted)");
	if (!strncmp(link, ctl_dir, n) && link[n] == '/' && p) { // whose name may have been another's meanwhile
		while (*p != '/')
			p--;
		sprintf(out, ".%.*s/#", (int)(p - link - n), link + n);
	} else if (!strncmp(link, ctl_dir, n) && (p = strstr(link, "/#")))
		sprintf(out, ".%.*s/#", (int)(p - link - n), link + n); // O_TMPFILE
	else if (!strncmp(link, ctl_dir, n) && (link[n] == '/' || !link[n] || link[n] == ' '))
		sprintf(out, ".%s", link + n);
	else if ((p = strstr(link, ":[")) && strncmp(link, "anon_inode", 10))
		sprintf(out, "%.*s#%d", (int)(p - link), link, number(link));
	else if (!strncmp(link, "/dev/pts/", 9))
		sprintf(out, "pts#%d%s", number(link), strstr(link, " (deleted)") ? " (deleted)" : "");
	else if (!strncmp(link, "/proc/", 6) && link[6] >= '0' && link[6] <= '9') {
		char *end;
		int pid = strtol(link + 6, &end, 10);
		sprintf(out, "/proc/%s%s", name(pid), end);
	} else
		strcpy(out, link);
}

static void link_of(const char *what, char *out, const char *path) {
	char b[4200];
	ssize_t n = readlink(path, b, sizeof b - 1);
	if (n < 0) {
		sprintf(out, "%s %s", what, strerror(errno));
		return;
	}
	b[n] = 0;
	out += sprintf(out, "%s ", what);
	plain(b, out);
}

// line tells a line of fdinfo.
static void line(char *l) {
	unsigned fd, ev, wd, mask;
	unsigned long data, s, ns;
	int a, b;
	char kind[20], how[20], type[20], start[30], end[30];
	if (!strncmp(l, "mnt_id", 6) || !strncmp(l, "ino:", 4) || !strncmp(l, "eventfd-id", 10) || !strncmp(l, "NSpid", 5))
		return;
	if (!strncmp(l, "tty-index", 9))
		say("    tty");
	else if (sscanf(l, "tfd: %u events: %x data: %lx", &fd, &ev, &data) == 3)
		say("    member %u events %x data %lx", fd, ev, data);
	else if (sscanf(l, "inotify wd:%x ino:%*x sdev:%*x mask:%x", &wd, &mask) == 2)
		say("    watch %u mask %x", wd, mask);
	else if (sscanf(l, "it_value: (%lu, %lu)", &s, &ns) == 2)
		say("    armed %d", s || ns);
	else if (sscanf(l, "Pid: %d", &a) == 1)
		say("    pid %s", name(a));
	else if (sscanf(l, "lock: %d: %19s %19s %19s %d %*s %29s %29s", &a, kind, how, type, &b, start, end) == 7)
		say("    lock %s %s %s %s %s", kind, how, type, start, end); // who took it may be gone, or share its descriptors with who has it
	else
		say("    %s", l);
}

// Open files, to tell which are the same.
static struct {
	pid_t pid;
	int fd, no;
	char text[120];
} files[1200];
static int nfiles;

static int order(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }

static int list(const char *path, int *out, int most) {
	DIR *d = opendir(path);
	int n = 0;
	if (!d)
		return -1;
	for (struct dirent *e; n < most && (e = readdir(d));)
		if (*e->d_name != '.')
			out[n++] = atoi(e->d_name);
	closedir(d);
	qsort(out, n, sizeof *out, order);
	return n;
}

// file tells a descriptor, and of which other one it is the same open file.
static void file(pid_t pid, int fd) {
	char path[80], text[4400], b[4000], t[40];
	sprintf(path, "/proc/%d/fd/%d", pid, fd), sprintf(t, "  fd %d", fd);
	link_of(t, text, path);
	if (strstr(text, "No such file"))
		return; // that of the directory of descriptors itself
	char *at = strchr(text + 5, ' ') + 1;
	int same = -1;
	for (int i = 0; i < nfiles && same < 0; i++)
		if (!strncmp(files[i].text, at, 119) && !syscall(SYS_kcmp, files[i].pid, pid, KCMP_FILE, files[i].fd, fd))
			same = i;
	MUST(nfiles < 1200);
	files[nfiles].pid = pid, files[nfiles].fd = fd, snprintf(files[nfiles].text, 120, "%s", at), nfiles++;
	if (same >= 0) {
		say("%s = %d of %s", text, files[same].fd, name(files[same].pid));
	} else
		say("%s", text);
	sprintf(path, "/proc/%d/fdinfo/%d", pid, fd);
	if (slurp(path, b, sizeof b) > 0)
		for (char *l = strtok(b, "\n"); l; l = strtok(NULL, "\n"))
			if (same < 0 || !strncmp(l, "flags", 5)) // O_CLOEXEC is the descriptor's
				line(l);
}

// fields says those lines of a file of /proc.
static void fields(const char *path, const char *const *want) {
	char b[4096], out[2000];
	int n = 0, stands = 0;
	if (slurp(path, b, sizeof b) < 0)
		return;
	for (char *l = strtok(b, "\n"); l; l = strtok(NULL, "\n")) {
		stands |= !strncmp(l, "State:\tT", 8);
		for (const char *const *f = want; *f; f++)
			if (!strncmp(l, *f, strlen(*f)) && l[strlen(*f)] == ':') {
				for (char *t = l; *t; t++)
					if (*t == '\t')
						*t = ' ';
				if (!strncmp(l + 3, "Pnd", 3)) // of what is stopped one more SIGSTOP does nothing; SIGCHLD: see caught
					n += sprintf(out + n, " %.8s%016lx", l, strtoul(l + 8, NULL, 16) & ~(1ul << (SIGSTOP - 1) | 1ul << (SIGCHLD - 1)));
				else if (!stands || strncmp(l, "SigBlk", 6)) // in which handlers it was stopped is chance
					n += sprintf(out + n, " %s", l);
			}
	}
	if (n)
		say(" %s", out);
}

static int stat_of(pid_t pid) {
	char path[60], b[2000], s;
	int ppid, pgid, sid, tty, tpgid, nice, threads, sig, policy, rt, code;
	sprintf(path, "/proc/%d/stat", pid);
	if (slurp(path, b, sizeof b) < 0)
		return 0;
	char *p = strrchr(b, ')') + 2;
	MUST(sscanf(p, "%c %d %d %d %d %d", &s, &ppid, &pgid, &sid, &tty, &tpgid) == 6);
	for (int i = 0; i < 16; i++)
		p = strchr(p, ' ') + 1;
	MUST(sscanf(p, "%d %d", &nice, &threads) == 2);
	for (int i = 0; i < 19; i++)
		p = strchr(p, ' ') + 1;
	MUST(sscanf(p, "%d %*d %d %d", &sig, &rt, &policy) == 3);
	p = strrchr(b, ' ') + 1, code = atoi(p);
	s = s == 'R' ? 'S' : s; // they look whose turn it is
	if (s == 'Z') {
		say("%s: %c ppid %s pgid %s sid %s signal %d code %x", name(pid), s, name(ppid), name(pgid), name(sid), sig, code);
		return 0;
	}
	say("%s: %c ppid %s pgid %s sid %s tty %d tpgid %s threads %d signal %d policy %d %d nice %d", name(pid), s,
	    pid == w->a[0].pid ? "-" : name(ppid), name(pgid), name(sid), tty != 0, name(tpgid), threads, sig, policy, rt, nice);
	char comm[40];
	sscanf(strchr(b, '('), "%39[^)]", comm);
	say("  comm %s", comm);
	return 1;
}

static const char *const of_process[] = {"Umask", "ShdPnd", "SigIgn", "SigCgt", NULL};
static const char *const of_thread[] = {"Uid", "Gid", "Groups", "SigPnd", "SigBlk", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Cpus_allowed", NULL};

static int heard_order(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

// heard tells which signals came to a process.
static void heard(pid_t pid) {
	char *all[600];
	int n = 0;
	for (int i = 0; i < w->n; i++)
		for (int k = 0; w->a[i].pid == pid && k < w->a[i].nheard; k++)
			if (n < 600)
				all[n++] = w->a[i].heard[k];
	qsort(all, n, sizeof *all, heard_order);
	for (int i = 0; i < n; i++)
		say("  heard %s", all[i]);
	for (int i = 0; i < w->n; i++)
		if (w->a[i].pid == pid)
			w->a[i].nheard = 0;
}

// outside tells what /proc says of a process.
static void outside(int i) {
	static const char *whole[] = {"oom_score_adj", "coredump_filter", "personality", "limits", "timers", NULL};
	pid_t pid = w->a[i].pid;
	char path[80], text[4400], b[4000];
	int fds[100], n;
	if (!stat_of(pid))
		return;
	heard(pid);
	sprintf(path, "/proc/%d/status", pid);
	fields(path, of_process);
	for (int k = 0; k < w->n; k++)
		if (w->a[k].pid == pid) {
			uint64_t coming;
			char s = state(w->a[k].tid, &coming);
			if (!s)
				continue;
			say("  thread %s %c", name(w->a[k].tid), s == 'R' ? 'S' : s);
			sprintf(path, "/proc/%d/task/%d/status", pid, w->a[k].tid);
			fields(path, of_thread);
		}
	sprintf(path, "/proc/%d/cwd", pid), link_of("  cwd", text, path), say("%s", text);
	sprintf(path, "/proc/%d/root", pid), link_of("  root", text, path), say("%s", text);
	for (const char **f = whole; *f; f++) {
		sprintf(path, "/proc/%d/%s", pid, *f);
		if (slurp(path, b, sizeof b) <= 0)
			continue;
		if (strlen(b) < 60)
			say("  %s %s", *f, strtok(b, "\n"));
		else if (!strcmp(*f, "timers"))
			for (char *l = strtok(b, "\n"), *p; l; l = strtok(NULL, "\n")) {
				if ((p = strrchr(l, '.')) && !strncmp(l, "notify", 6))
					sprintf(p + 1, "%s", name(atoi(p + 1)));
				if ((p = strrchr(l, '/')) && !strncmp(l, "signal", 6))
					*p = 0;
				say("  timer %s", l);
			}
		else
			say("  %s %016lx", *f, fnv(b, strlen(b)));
	}
	sprintf(path, "/proc/%d/fd", pid);
	n = list(path, fds, 100);
	for (int k = 0; k < n; k++)
		file(pid, fds[k]);
}

// together tells what tasks have in common.
static void together(void) {
	static const struct {
		const char *name;
		int type;
	} kinds[] = {{"descriptors", KCMP_FILES}, {"directories", KCMP_FS}, {"handlers", KCMP_SIGHAND}};
	for (int k = 0; k < 3; k++)
		for (int i = 0; i < w->n; i++)
			for (int j = 0; j < i; j++)
				if (w->a[i].pid != w->a[j].pid && w->a[i].tid == w->a[i].pid && w->a[j].tid == w->a[j].pid && !w->a[i].gone && !w->a[j].gone &&
				    !syscall(SYS_kcmp, w->a[i].pid, w->a[j].pid, kinds[k].type, 0, 0)) {
					say("%s: %s as %s", name(w->a[i].pid), kinds[k].name, name(w->a[j].pid));
					break;
				}
}

// tree tells of all.
static void tree(void) {
	nfiles = nseen = 0;
	for (int i = 0; i < w->n; i++)
		if (w->a[i].tid == w->a[i].pid)
			outside(i);
	together();
}
