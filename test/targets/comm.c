// Names of tasks and threads, also odd ones, and of children.
#include "ctl.h"
#include <pthread.h>

static pthread_barrier_t turn;
static const char *names[] = {"worker/0", "a) S 1 (b", "fifteen chars..", " ", "\xc3\xa4\n\\", ""};
static char seen[6][16];

static void *body(void *arg) {
	long i = (long)arg;
	CHECK(prctl(PR_SET_NAME, names[i]));
	while (pthread_barrier_wait(&turn), !ctl_done) {
		CHECK(prctl(PR_GET_NAME, seen[i]));
		pthread_barrier_wait(&turn);
	}
	return NULL;
}

int main(int argc, char **argv) {
	ctl_init(argc, argv);
	CHECK(prctl(PR_SET_NAME, "main) R"));
	OK(pthread_barrier_init(&turn, NULL, 7));
	pthread_t th[6];
	for (long i = 0; i < 6; i++)
		OK(pthread_create(&th[i], NULL, body, (void *)i));
	char name[16], exe[256] = "", cmd[256] = "";
	do {
		pthread_barrier_wait(&turn);
		pthread_barrier_wait(&turn);
		CHECK(prctl(PR_GET_NAME, name));
		obs("main %s", name);
		for (int i = 0; i < 6; i++)
			obs("thread %d %llx", i, (unsigned long long)fnv(seen[i], strlen(seen[i])));
		CHECK(readlink("/proc/self/exe", exe, 255));
		int fd = CHECK(open("/proc/self/cmdline", O_RDONLY));
		int n = CHECK(read(fd, cmd, 255));
		close(fd);
		fd = CHECK(open("/proc/self/environ", O_RDONLY));
		static char env[8192];
		int m = CHECK(read(fd, env, sizeof env));
		close(fd);
		obs("exe %s", exe);
		obs("=cmdline %llx environ %llx", (unsigned long long)fnv(cmd, n), (unsigned long long)fnv(env, m));
		char aux[1024];
		fd = CHECK(open("/proc/self/auxv", O_RDONLY));
		n = CHECK(read(fd, aux, sizeof aux));
		close(fd);
		obs("=auxv %llx", (unsigned long long)fnv(aux, n));
	} while (savepoint());
	pthread_barrier_wait(&turn);
	for (int i = 0; i < 6; i++)
		OK(pthread_join(th[i], NULL));
	return 0;
}
