// Handles the signals that others ignore, on a stack of their own with an argument: it
// says so, waits for a byte, and says that it has it.
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

static void handle(int sig)
{
	char c = 'h';
	if (write(1, &c, 1) != 1 || read(0, &c, 1) != 1 || write(1, &c, 1) != 1)
		_exit(2);
}

int main(int argc, char **argv)
{
	struct sigaction a = {.sa_handler = handle, .sa_flags = argc > 1 ? SA_ONSTACK : 0};
	stack_t s = {.ss_sp = malloc(1 << 16), .ss_size = 1 << 16};
	sigfillset(&a.sa_mask);
	if (argc > 1 && sigaltstack(&s, NULL))
		return 1;
	sigaction(SIGURG, &a, NULL);
	sigaction(SIGWINCH, &a, NULL);
	sigaction(SIGCHLD, &a, NULL);
	if (write(1, "x", 1) != 1)
		return 1;
	for (;;)
		pause();
}
