// As many threads as the argument says, all asleep.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void *body(void *arg) {
	for (;;)
		pause();
	return arg;
}

int main(int argc, char **argv) {
	pthread_attr_t a;
	pthread_t th;
	pthread_attr_init(&a);
	pthread_attr_setstacksize(&a, 65536);
	for (int i = 1; i < atoi(argv[1]); i++)
		if (pthread_create(&th, &a, body, NULL))
			return 1;
	printf("ready\n");
	fflush(stdout);
	body(NULL);
}
