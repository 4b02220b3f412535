// A parent with memory that its many children have, too: MiB and how many, as the
// arguments say. It makes the file "ready", and all wait until they are killed.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv) {
	size_t size = argc > 2 ? (size_t)atoi(argv[1]) << 20 : 0;
	char *memory = malloc(size);
	if (!memory)
		return 1;
	memset(memory, 7, size);
	for (int n = argc > 2 ? atoi(argv[2]) : 0; n > 0; n--) {
		pid_t pid = fork();
		if (pid < 0)
			return 1;
		if (!pid) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			for (;;)
				pause();
		}
	}
	fclose(fopen("ready", "w"));
	while (wait(NULL) > 0)
		;
	return memory[size - 1] != 7;
}
