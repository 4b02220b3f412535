// The world of treerandom.c: its tasks, who does the next step, and what is written down. It is
// shared memory, so that there is nothing else to be saved: who is not to do anything sleeps.
#include "ctl.h"
#include <sched.h>
#include <stddef.h>

enum { ACTORS = 60, LIVING = 14, STEP = 0, LOOK = 1, END = 2 };

// Each thread is an actor.
struct actor {
	pid_t pid, tid;
	int gone, leaves;
	int nheard;
	char heard[60][60]; // signals
};

static struct world {
	volatile int turn, what; // whose turn it is, 0: the root's
	uint64_t state;
	volatile int n;
	struct actor a[ACTORS];
	int names; // of files, so far
	size_t len;
	char log[1 << 20];
} *w;

static __thread int me, left; // left: the turn was given back before the step has ended

static unsigned rnd(unsigned n) {
	w->state ^= w->state << 13, w->state ^= w->state >> 7, w->state ^= w->state << 17;
	return (w->state >> 11) % n;
}

__attribute__((format(printf, 1, 2))) static void say(const char *fmt, ...) {
	va_list ap;
	va_start(ap, fmt);
	w->len += vsnprintf(w->log + w->len, sizeof w->log - w->len, fmt, ap);
	va_end(ap);
	MUST(w->len + 2 < sizeof w->log);
	w->log[w->len++] = '\n';
}

// did says what came of a step.
__attribute__((format(printf, 2, 3))) static void did(long r, const char *fmt, ...) {
	int e = errno;
	char b[300];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(b, sizeof b, fmt, ap);
	va_end(ap);
	if (r < 0)
		say("t%d: %s: %s", me, b, strerror(e));
	else
		say("t%d: %s: %ld", me, b, r);
}

// name is what a process or thread is called, whatever number it has.
static const char *name(pid_t pid) {
	static __thread char b[8][16];
	static __thread int at;
	char *s = b[at++ % 8];
	if (pid <= 0)
		return sprintf(s, "%d", pid), s;
	for (int i = w->n; i-- > 0;)
		if (w->a[i].tid == pid)
			return sprintf(s, "t%d", i), s;
	return strcpy(s, "?");
}

// slurp reads a file of /proc; -1: there is none.
static int slurp(const char *path, char *b, size_t size) {
	int fd = open(path, O_RDONLY | O_CLOEXEC), n = 0, k = 0;
	if (fd < 0)
		return -1;
	while (n < (int)size - 1 && (k = read(fd, b + n, size - 1 - n)) > 0)
		n += k;
	close(fd);
	b[n] = 0;
	return k < 0 ? -1 : n;
}

// state is that of a thread, and which signals it is about to get: what waits and isn't blocked.
static char state(pid_t tid, uint64_t *coming) {
	char path[60], b[4096];
	uint64_t pnd, shared, blk;
	sprintf(path, "/proc/%d/status", tid);
	*coming = 0;
	if (slurp(path, b, sizeof b) < 0)
		return 0;
	sscanf(strstr(b, "SigPnd:") + 7, "%lx", &pnd);
	sscanf(strstr(b, "ShdPnd:") + 7, "%lx", &shared);
	sscanf(strstr(b, "SigBlk:") + 7, "%lx", &blk);
	*coming = (pnd | shared) & ~blk;
	return strstr(b, "State:")[7];
}

// settled tells whether an actor has come to where it stays.
static int settled(struct actor *a) {
	uint64_t coming;
	char s = state(a->tid, &coming);
	if (s == 0 || s == 'Z' || s == 'X') {
		a->gone = 1;
		return s != 'X';
	}
	if (a->leaves || coming & 1 << (SIGKILL - 1))
		return 0;
	return s == 'T' || (s == 'S' && !coming);
}

// settle waits until all have come to where they stay.
static void settle(void) {
	for (int calm = 0; calm < 2; calm++)
		for (int i = 1; i < w->n; i++)
			while (!w->a[i].gone && !settled(&w->a[i])) {
				if (ctl_exists("error", NULL))
					_exit(97);
				nanosleep(&(struct timespec){0, 100000}, NULL), calm = 0;
			}
}

static int stopped(int i) {
	uint64_t coming;
	return state(w->a[i].tid, &coming) == 'T';
}

static int living(void) {
	int n = 0;
	for (int i = 0; i < w->n; i++)
		n += !w->a[i].gone;
	return n;
}

// some is an actor that has not ended.
static int some(void) {
	for (int i;;)
		if (!w->a[i = rnd(w->n)].gone)
			return i;
}

static void step(void);
static void look_inside(int end);

// leave is for who is not to come back from what it does next.
static void leave(int forever) {
	w->a[me].leaves = forever;
	left = 1;
	w->turn = 0;
}

// act does what there is to do in one's turns.
__attribute__((noreturn)) static void act(int who) {
	for (me = who;;) {
		while (w->turn != me)
			nanosleep(&(struct timespec){0, 200000}, NULL);
		if (w->what == STEP)
			step();
		else
			look_inside(w->what == END);
		if (w->turn == me && !left) // else it may be the next one already
			w->turn = 0;
		left = 0;
	}
}

// let has an actor do something; the root waits for it.
static void let(int who, int what) {
	w->what = what;
	if (who == 0) {
		what == STEP ? step() : look_inside(what == END);
		settle();
		return;
	}
	if (w->a[who].gone || stopped(who))
		return;
	w->turn = who;
	for (int n = 0; w->turn; n++) {
		uint64_t coming;
		// That opens a file, which who looks, and has the same descriptors, would see.
		char s = n > (what == STEP ? 10 : what == LOOK ? 5000 : 200) ? state(w->a[who].tid, &coming) : 'S';
		if (!s || s == 'Z' || s == 'T') // what it did has ended or stopped it
			w->turn = 0;
		if (ctl_exists("error", NULL))
			_exit(97);
		nanosleep(&(struct timespec){0, 100000}, NULL);
	}
	settle();
}

// born is a new actor, before it is: its number.
static int born(void) {
	MUST(w->n < ACTORS);
	int n = w->n;
	w->a[n] = (struct actor){0};
	return n;
}
