// Does random things with memory, which ones argv[1] decides: argv[2] steps of each task
// between save points. Tasks are forked meanwhile, and some end. They take turns, told by the
// root, so that what comes of it is the same each time: what is mapped, which pages a task has
// of its own, where it may read and write, and what is there.
#include "ctl.h"
#include <setjmp.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#ifndef MAP_DROPPABLE
#define MAP_DROPPABLE 0x08
#endif
#ifndef PR_SET_MDWE
#define PR_SET_MDWE 65
#endif
enum { PAGE = 4096, MOST = 3 * 512, TASKS = 12, FILES = 4 };

static uint64_t state;
static unsigned rnd(unsigned n) {
	state ^= state << 13, state ^= state >> 7, state ^= state << 17;
	return (state >> 11) % n;
}

// Where things are done: somewhere, as low and as high as it goes, in huge pages, at the heap.
static struct arena {
	const char *name;
	char *at;
	int pages;
} arenas[] = {
	{"some", (char *)0x100000000000, 128},
	{"low", (char *)0x10000, 16},
	{"high", (char *)0x7ffffffdf000, 32},
	{"huge", (char *)0x200000000000, MOST},
	{"heap", NULL, 64},
};
enum { HEAP = 4 };

static int me, steps, round_;
static int sealed, wx, lazy, locks; // whether this seed has such

static sigjmp_buf back;
static volatile int fault;
static void caught(int sig, siginfo_t *i, void *c) {
	(void)c;
	fault = sig == SIGBUS ? 'B' : i->si_code == SEGV_MAPERR ? '-' : i->si_code == SEGV_ACCERR ? 'x' : '?';
	siglongjmp(back, 1);
}

// get reads a page and tells what is in it, or which signal came.
static uint64_t get(volatile char *p, int *how) {
	*how = 0;
	if (sigsetjmp(back, 1)) {
		*how = fault;
		return 0;
	}
	return fnv((const char *)p, PAGE);
}

// put writes to a page: nothing but zeroes, all of it, or a byte somewhere.
static int put(volatile char *p, unsigned what, uint64_t seed) {
	if (sigsetjmp(back, 1))
		return fault;
	switch (what) {
	case 0:
		for (int i = 0; i < PAGE; i += 8)
			*(volatile uint64_t *)(p + i) = 0;
		break;
	case 1:
		for (int i = 0; i < PAGE; i += 8)
			*(volatile uint64_t *)(p + i) = seed += 0x9e3779b97f4a7c15;
		break;
	case 2:
		p[PAGE - 1] = seed;
		break;
	case 3:
		p[0] = seed;
		break;
	case 4:
		p[0] = 0;
		break;
	default:
		p[seed % PAGE] = seed >> 8;
	}
	return 'w';
}

static int note(const char *what, struct arena *a, int from, int n, long r) {
	obs("%s %s %d+%d: %s", what, a->name, from, n, r == -1 ? strerror(errno) : "ok");
	return r != -1;
}

static char *file(char *b, int n) {
	sprintf(b, "file%d", n);
	return b;
}

static int memfds[2];

// some_fd opens what is to be mapped; -1: it is gone.
static int some_fd(int k) {
	char b[20];
	if (k >= FILES)
		return dup(memfds[k - FILES]);
	return open(file(b, k), O_RDWR | O_CLOEXEC);
}

static int prot(void) {
	static const int p[] = {PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE, PROT_READ, PROT_NONE,
	                        PROT_WRITE, PROT_READ | PROT_EXEC, PROT_READ | PROT_WRITE | PROT_EXEC};
	return p[rnd(wx ? 8 : 6)];
}

static void map(struct arena *a, int from, int n) {
	char *at = a->at + (long)from * PAGE;
	int flags = MAP_FIXED, fd = -1, off = 0, k = rnd(12), p = prot();
	const char *what = "map anonymous";
	if (k < 5)
		flags |= MAP_PRIVATE | MAP_ANONYMOUS;
	else if (k < 6)
		flags |= MAP_SHARED | MAP_ANONYMOUS, what = "map shared";
	else if (k < 7 && !rnd(3))
		flags |= MAP_DROPPABLE | MAP_ANONYMOUS, what = "map droppable";
	else {
		int f = rnd(FILES + 2);
		fd = some_fd(f), off = rnd(8);
		flags |= rnd(2) ? MAP_SHARED : MAP_PRIVATE;
		what = flags & MAP_SHARED ? "map shared file" : "map private file";
		if (fd < 0) {
			note(what, a, from, n, -1);
			return;
		}
	}
	if (!rnd(6))
		flags |= MAP_NORESERVE;
	if (!rnd(10) && locks)
		flags |= MAP_LOCKED;
	if (!rnd(10))
		flags |= MAP_POPULATE;
	if (!rnd(10))
		flags |= MAP_STACK;
	if (flags & MAP_PRIVATE && flags & MAP_ANONYMOUS && !rnd(10))
		flags |= MAP_GROWSDOWN;
	note(what, a, from, n, (long)mmap(at, (long)n * PAGE, p, flags, fd, (long)off * PAGE));
	if (fd >= 0)
		close(fd);
}

static void advise(struct arena *a, int from, int n) {
	static const int all[] = {MADV_DONTNEED, MADV_DONTNEED, MADV_FREE, MADV_HUGEPAGE, MADV_NOHUGEPAGE, MADV_MERGEABLE, MADV_UNMERGEABLE,
	                          MADV_DONTDUMP, MADV_DODUMP, MADV_DONTFORK, MADV_DOFORK, MADV_WIPEONFORK, MADV_KEEPONFORK,
	                          MADV_GUARD_INSTALL, MADV_GUARD_INSTALL, MADV_GUARD_REMOVE, MADV_COLD, MADV_PAGEOUT, MADV_POPULATE_READ,
	                          MADV_POPULATE_WRITE, MADV_COLLAPSE, MADV_REMOVE, MADV_SEQUENTIAL, MADV_RANDOM, MADV_NORMAL, 24 /* MADV_DONTNEED_LOCKED */};
	int k = all[rnd(sizeof all / sizeof *all)];
	char b[30];
	// What was given up by MADV_FREE may go, and does at MADV_PAGEOUT, unless it was restored.
	if (k == (lazy ? MADV_PAGEOUT : MADV_FREE))
		k = MADV_COLD;
	sprintf(b, "madvise %d", k);
	long r = madvise(a->at + (long)from * PAGE, (long)n * PAGE, k);
	// How far it gets with memory that can't be had, or is in use, is chance.
	if (k == MADV_COLLAPSE || k == MADV_PAGEOUT)
		r = 0;
	note(b, a, from, n, r);
}

static void move(struct arena *a, int from, int n) {
	struct arena *to = &arenas[rnd(3)];
	int at = rnd(to->pages), m = rnd(3) ? n : (int)(1 + rnd(8)), flags = MREMAP_MAYMOVE | MREMAP_FIXED;
	if (at + m > to->pages)
		at = to->pages - m;
	if (m > to->pages || at < 0)
		return;
	if (!rnd(3))
		flags |= MREMAP_DONTUNMAP;
	char b[40];
	sprintf(b, "mremap %x to %s %d+%d", flags, to->name, at, m);
	note(b, a, from, n, (long)mremap(a->at + (long)from * PAGE, (long)n * PAGE, (long)m * PAGE, flags, to->at + (long)at * PAGE));
}

static void resize(struct arena *a, int from, int n) {
	int m = 1 + rnd(12);
	char b[40];
	if (from + m > a->pages || from + n > a->pages)
		return;
	sprintf(b, "mremap in place to %d", m);
	long r = (long)mremap(a->at + (long)from * PAGE, (long)n * PAGE, (long)m * PAGE, 0);
	if (r == -1 && errno == EFAULT)
		errno = ENOMEM; // whether the kernel has joined two mappings is not compared
	note(b, a, from, n, r);
}

// files does something to a file that may be mapped. It ends where a page does: what is written
// behind a file's end may be lost at any time, see mmap(2).
static void files(void) {
	char b[20];
	int k = rnd(FILES + 2), n = rnd(12), fd = some_fd(k);
	switch (rnd(5)) {
	case 0:
		obs("truncate %d to %d: %d", k, n * PAGE, fd < 0 ? -1 : ftruncate(fd, n * PAGE));
		break;
	case 1:
		obs("delete %d: %d", k, k < FILES ? unlink(file(b, k)) : 0);
		break;
	case 2:
		if (fd < 0 && k < FILES) {
			fd = CHECK(open(file(b, k), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
			obs("make %d anew: %d", k, ftruncate(fd, n * PAGE));
		}
		break;
	case 3:
		if (fd >= 0) {
			uint64_t w[64];
			for (int i = 0; i < 64; i++)
				w[i] = state + i;
			obs("write to %d: %d", k, (int)pwrite(fd, w, sizeof w, (long)(n + 1) * PAGE - sizeof w));
		}
		break;
	default:
		if (fd >= 0)
			obs("punch %d: %d", k, fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (long)n * PAGE, 2 * PAGE));
	}
	if (fd >= 0)
		close(fd);
}

static void heap(void) {
	int n = rnd(arenas[HEAP].pages + 1);
	char *end = arenas[HEAP].at + (long)n * PAGE - rnd(PAGE);
	if (end < arenas[HEAP].at)
		end = arenas[HEAP].at;
	obs("brk %ld: %d", (long)(end - arenas[HEAP].at), (char *)syscall(SYS_brk, end) == end);
}

static void touch(struct arena *a, int from, int n) {
	for (int i = from; i < from + n; i++) {
		int how;
		if (rnd(4))
			obs("put %s %d: %c", a->name, i, put(a->at + (long)i * PAGE, rnd(6), state));
		else
			get(a->at + (long)i * PAGE, &how);
	}
}

static void whole(void) {
	switch (locks ? rnd(7) : 4 + rnd(3)) {
	case 0:
		obs("mlockall future: %d", mlockall(MCL_FUTURE | (rnd(2) ? MCL_ONFAULT : 0)));
		break;
	case 1:
		obs("mlockall: %d", mlockall(MCL_CURRENT | (rnd(2) ? MCL_ONFAULT : 0)));
		break;
	case 2:
	case 3:
		obs("munlockall: %d", munlockall());
		break;
	case 4:
		obs("thp: %d", prctl(PR_SET_THP_DISABLE, rnd(2), 0, 0, 0));
		break;
	case 5:
		if (!wx)
			obs("mdwe: %d", prctl(PR_SET_MDWE, 1 + 2 * rnd(2), 0, 0, 0));
		break;
	default:
		obs("dumpable: %d", prctl(PR_SET_DUMPABLE, rnd(2)));
	}
}

static void step(void) {
	struct arena *a = &arenas[(int[]){0, 0, 0, 0, 1, 2, 3, HEAP}[rnd(8)]];
	int from = rnd(a->pages), n = 1 + rnd(rnd(3) ? 6 : a->pages), what = rnd(100);
	if (a->pages == MOST && rnd(2))
		from &= ~511, n = 512 * (1 + rnd(3));
	if (from + n > a->pages)
		n = a->pages - from;
	char *at = a->at + (long)from * PAGE, b[30];
	long len = (long)n * PAGE;
	if (what < 16 && a != &arenas[HEAP])
		map(a, from, n);
	else if (what < 46)
		touch(a, from, n > 12 ? 12 : n);
	else if (what < 54) {
		int p = prot();
		sprintf(b, "mprotect %d", p), note(b, a, from, n, mprotect(at, len, p));
	} else if (what < 72)
		advise(a, from, n);
	else if (what < 76)
		move(a, from, n);
	else if (what < 78)
		resize(a, from, n);
	else if (what < 80 && a != &arenas[HEAP])
		note("munmap", a, from, n, munmap(at, len));
	else if (what < 82 && locks)
		note("mlock", a, from, n, mlock2(at, len, rnd(2) ? MLOCK_ONFAULT : 0));
	else if (what < 83)
		note("munlock", a, from, n, munlock(at, len));
	else if (what < 86)
		heap();
	else if (what < 92)
		files();
	else if (what < 94)
		sprintf(b, "n%d", rnd(5)), note(b, a, from, n, prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, at, len, rnd(4) ? b : NULL));
	else if (what < 96)
		whole();
	else if (what < 97 && sealed && !rnd(3))
		note("mseal", a, from, n > 3 ? 3 : n, syscall(462, at, n > 3 ? 3 * PAGE : len, 0));
	else if (what < 99)
		msync(at, len, MS_SYNC);
}

// What /proc says of each page of an arena.
static char smaps[1 << 21];
static char *about[MOST]; // the line of smaps of what a page is in, NULL: nothing
static char kinds[MOST];

static void slurp(void) {
	int fd = CHECK(open("/proc/self/smaps", O_RDONLY | O_CLOEXEC));
	ssize_t n = 0, k;
	while ((k = CHECK(read(fd, smaps + n, sizeof smaps - 1 - n))) > 0)
		n += k;
	MUST(n < (ssize_t)sizeof smaps - 1);
	smaps[n] = 0;
	close(fd);
}

// text_of is what is compared of a mapping: its line, and flags but those that come by themselves.
static char texts[400][300];
static int ntexts;

static char *text_of(char *line) {
	char perms[8], name[100] = "", *out = texts[ntexts++];
	int at = 0, n;
	MUST(ntexts <= 400);
	sscanf(line, "%*s %7s %*s %*s %*u%*[ ]%n", perms, &at);
	sscanf(line + at, "%99[^\n]", name);
	char *slash = strrchr(name, '/');
	// A mapping is [heap] as a whole; which the kernel joins is not compared.
	n = sprintf(out, "%s %s ", perms, strstr(name, "(deleted)") ? "deleted" : !strcmp(name, "[heap]") ? "" : slash ? slash : name);
	for (char *f = strstr(line, "VmFlags:") + 9; *f != '\n'; f += 3)
		// not: soft-dirty, accounted for, and that there was a guard region once
		if (strncmp(f, "sd", 2) && strncmp(f, "ac", 2) && strncmp(f, "gu", 2))
			n += sprintf(out + n, "%.2s ", f);
	return out;
}

static int own(uint64_t w, int zero) {
	if (w & 1ULL << 58)
		return 'g';
	if (w & 1ULL << 62)
		return 'S';
	if (!(w & 1ULL << 63) || w & 1ULL << 61 || zero)
		return '.';
	return 'p';
}

static uint64_t zeroes[2]; // words of the zero page, and of the huge one

static void look(struct arena *a) {
	static uint64_t words[MOST];
	int fd = CHECK(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
	MUST(pread(fd, words, a->pages * 8, (uintptr_t)a->at / PAGE * 8) == a->pages * 8);
	close(fd);
	memset(about, 0, sizeof about);
	ntexts = 0;
	for (char *l = smaps, *next; *l; l = next) {
		unsigned long start, end;
		MUST(sscanf(l, "%lx-%lx ", &start, &end) == 2);
		next = strstr(l, "VmFlags:");
		next = strchr(next, '\n') + 1;
		if (end <= (uintptr_t)a->at || start >= (uintptr_t)a->at + (long)a->pages * PAGE)
			continue;
		char *text = text_of(l);
		for (int i = 0; i < a->pages; i++)
			if ((uintptr_t)a->at + (long)i * PAGE >= start && (uintptr_t)a->at + (long)i * PAGE < end)
				about[i] = text;
	}
	for (int i = 0; i < a->pages; i++)
		kinds[i] = own(words[i], (words[i] & ((1ULL << 55) - 1)) == zeroes[0] || (words[i] & ((1ULL << 55) - 1)) / 512 == zeroes[1]);
}

static int same(const char *a, const char *b) { return a == b || (a && b && !strcmp(a, b)); }
static int has(const char *text, const char *flag) { return text && strstr(text, flag); }

// show says what is mapped without touching it, and then, if it is to, what is there.
static void show(struct arena *a, int touch) {
	look(a);
	char line[4 * MOST] = "";
	int n = 0;
	for (int i = 0, k; i < a->pages; i = k) {
		for (k = i; k < a->pages && same(about[k], about[i]); k++)
			if (locks || has(about[k], " dp ") || has(about[k], " hg "))
				kinds[k] = '?'; // it may be gone, or be more at any time; how much is found of what is locked, if not all can be, is chance
		if (about[i])
			obs("%s %d-%d %s", a->name, i, k, about[i]);
		for (int m = i, e; m < k; m = e) {
			for (e = m; e < k && kinds[e] == kinds[m]; e++)
				;
			n += sprintf(line + n, e > m + 1 ? "%c%d" : "%c", kinds[m], e - m);
		}
	}
	obs("%s pages %s", a->name, line);
	uint64_t last = 0, h;
	for (int i = 0, lasthow = -1, how; touch && i < a->pages; i++) {
		h = get(a->at + (long)i * PAGE, &how);
		if (has(about[i], " dp ") && !how)
			h = 0;
		if (h != last || how != lasthow)
			obs("%s %d.. %c %016lx", a->name, i, how ? how : 'r', h);
		last = h, lasthow = how;
	}
}

static void show_all(int touch) {
	slurp();
	for (int i = 0; i <= HEAP; i++)
		show(&arenas[i], touch && (touch == 2 || rnd(2)));
	obs("thp %d mdwe %d brk %ld", (int)prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0), (int)prctl(66, 0, 0, 0, 0), (long)syscall(SYS_brk, 0) - (long)arenas[HEAP].at);
}

static void await_(const char *what, int i) {
	char b[60];
	sprintf(b, "%s.%d.%d", what, round_, i);
	for (struct stat st; stat(b, &st);) {
		if (ctl_exists("error", NULL))
			_exit(97);
		nanosleep(&(struct timespec){0, 200000}, NULL);
	}
}

static void tell(const char *what, int i) {
	char b[60];
	sprintf(b, "%s.%d.%d", what, round_, i);
	CHECK(mknod(b, S_IFREG | 0666, 0));
}

// begin forks the next task.
static void begin(void) {
	int n = 1;
	char who[20], b[40];
	for (struct stat st; sprintf(b, "born%d", n), !stat(b, &st);)
		n++;
	if (n == TASKS)
		return;
	pid_t pid = CHECK(fork());
	if (!pid) {
		me = n, state = state * 31 + n;
		sprintf(who, "t%d", n);
		ctl_child(who);
		return;
	}
	int fd = CHECK(open(b, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600));
	sprintf(who, "%d", pid);
	MUST(write(fd, who, strlen(who) + 1) == (ssize_t)strlen(who) + 1);
	close(fd);
	obs("begin %d", n);
}

// turn is what a task does in a round; it tells whether it is another's, who has just begun.
static int turn(void) {
	int who = me;
	if (round_)
		show_all(rnd(3) ? 0 : 1);
	for (int i = 0; i < steps; i++) {
		step();
		if (!rnd(steps * 2) && (begin(), me != who))
			return 1;
	}
	return 0;
}

// forked looks at what is in a child, which ends.
static void forked(void) {
	pid_t pid = CHECK(fork());
	if (!pid) {
		char who[30];
		sprintf(who, "f%d", me);
		ctl_child(who);
		show_all(2);
		char path[400];
		ctl_write(ctl_path(path, "obs", ctl_name), ctl_buf, ctl_len);
		_exit(0);
	}
	while (!kill(pid, 0))
		nanosleep(&(struct timespec){0, 200000}, NULL);
}

// mine is a task's turn, in which it may end.
static void mine(void) {
	char b[60], path[400];
	await_("run", me);
	if (ctl_exists("end", NULL)) {
		show_all(2), forked(), tell("done", me);
		return;
	}
	if (turn())
		return; // a task that has just begun: its turn is in the next round
	if (!rnd(8)) {
		obs("ends");
		sprintf(b, "dead%d", me);
		CHECK(mknod(b, S_IFREG | 0666, 0));
		ctl_write(ctl_path(path, "obs", ctl_name), ctl_buf, ctl_len);
		_exit(0);
	}
	tell("done", me);
}

__attribute__((noreturn)) static void child(void) {
	while (savepoint())
		round_++, mine();
	await_("over", 0); // so that nobody loses a page meanwhile
	_exit(0);
}

static int alive(int n, pid_t *pid) {
	struct stat st;
	char b[40], t[20] = "";
	sprintf(b, "dead%d", n);
	int dead = !stat(b, &st);
	sprintf(b, "born%d", n);
	int fd = open(b, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	MUST(read(fd, t, sizeof t - 1) > 0);
	close(fd);
	*pid = atoi(t);
	return !dead;
}

// others lets all others have their turn, and knows then who there is.
static void others(int old) {
	pid_t pid;
	ctl_parties = 0;
	for (int i = 1, is; (is = alive(i, &pid)) >= 0; i++) {
		if (is && i <= old) {
			tell("run", i);
			char b[60];
			sprintf(b, "done.%d.%d", round_, i);
			for (struct stat st; stat(b, &st) && (is = alive(i, &pid)) == 1;) {
				if (ctl_exists("error", NULL))
					_exit(97);
				nanosleep(&(struct timespec){0, 200000}, NULL);
			}
			while (!is && !kill(pid, 0))
				nanosleep(&(struct timespec){0, 200000}, NULL);
		}
		char who[20];
		sprintf(who, "t%d", i);
		if (is)
			ctl_party(who);
	}
}

static int born(void) {
	int n = 0;
	pid_t pid;
	while (alive(n + 1, &pid) >= 0)
		n++;
	return n;
}

static void prepare(void) {
	char b[20] = "";
	for (int i = 0; i < FILES; i++) {
		int fd = CHECK(open(file(b, i), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
		CHECK(ftruncate(fd, 14 * PAGE));
		for (int k = i; k < 14; k += 1 + rnd(3)) // with holes
			MUST(pwrite(fd, b, sizeof b, (long)k * PAGE + 10) == sizeof b);
		close(fd);
	}
	for (int i = 0; i < 2; i++) {
		memfds[i] = CHECK(memfd_create("m", 0));
		CHECK(ftruncate(memfds[i], 10 * PAGE));
	}
	char *z = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int how, fd = CHECK(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
	uint64_t w;
	get(z, &how);
	MUST(pread(fd, &w, 8, (uintptr_t)z / PAGE * 8) == 8);
	zeroes[0] = w & ((1ULL << 55) - 1);
	munmap(z, PAGE);
	z = mmap((void *)0x300000000000, 1 << 21, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	madvise(z, 1 << 21, MADV_HUGEPAGE);
	get(z, &how);
	MUST(pread(fd, &w, 8, (uintptr_t)z / PAGE * 8) == 8);
	zeroes[1] = (w & ((1ULL << 55) - 1)) / 512;
	munmap(z, 1 << 21);
	close(fd);
}

int main(int argc, char **argv) {
	steps = atoi(argv[2]);
	ctl_init(argc, argv);
	state = strtoull(argv[1], NULL, 10) * 0x9e3779b97f4a7c15 + 1;
	for (int i = 0; i < 20; i++)
		rnd(2);
	sealed = !rnd(4), wx = rnd(3) > 0, lazy = rnd(2), locks = !rnd(3);
	struct sigaction sa = {.sa_sigaction = caught, .sa_flags = SA_SIGINFO | SA_NODEFER};
	sigaction(SIGSEGV, &sa, NULL), sigaction(SIGBUS, &sa, NULL);
	signal(SIGCHLD, SIG_IGN);
	CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1));
	prepare();
	arenas[HEAP].at = (char *)(((uintptr_t)syscall(SYS_brk, 0) + PAGE - 1) & ~(uintptr_t)(PAGE - 1));
	do {
		int old = born();
		if (ctl_exists("end", NULL)) {
			show_all(2), forked(), others(old);
			continue;
		}
		if (turn())
			child();
		others(old);
		round_++;
	} while (savepoint());
	tell("over", 0);
	while (wait(NULL) > 0)
		;
	return 0;
}
