// Has threads, of which one executes another program when it is told to: the first, or,
// with a program as argument, another one that one.
#include <pthread.h>
#include <unistd.h>

static char *program;

static void execute(void)
{
	char c = 1;
	if (write(1, &c, 1) != 1 || read(0, &c, 1) != 1)
		_exit(2);
	execl(program ? program : "/bin/sleep", "sleep", "1000", NULL);
	_exit(3);
}

static void *wait_for_ever(void *me)
{
	if (me && program)
		execute();
	pause();
	return me;
}

int main(int argc, char **argv)
{
	program = argc > 1 ? argv[1] : NULL;
	for (int i = 0; i < 4; i++) {
		pthread_t t;
		if (pthread_create(&t, NULL, wait_for_ever, i == 3 ? &t : NULL))
			return 1;
	}
	if (program)
		pause();
	execute();
}
