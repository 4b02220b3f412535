// Has threads, and executes another program when it is told to.
#include <pthread.h>
#include <unistd.h>

static void *wait_for_ever(void *none)
{
	pause();
	return none;
}

int main(void)
{
	for (int i = 0; i < 4; i++) {
		pthread_t t;
		if (pthread_create(&t, NULL, wait_for_ever, NULL))
			return 1;
	}
	char c = 1;
	if (write(1, &c, 1) != 1 || read(0, &c, 1) != 1)
		return 2;
	execl("/bin/sleep", "sleep", "1000", NULL);
	return 3;
}
