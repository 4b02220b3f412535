// Writes a character for each signal that it gets: '1' for SIGUSR1, '2' for SIGUSR2;
// a point first.
#include <signal.h>
#include <unistd.h>

static void on(int s) { (void)!write(1, s == SIGUSR1 ? "1" : "2", 1); }

int main(void) {
	signal(SIGUSR1, on);
	signal(SIGUSR2, on);
	(void)!write(1, ".", 1);
	for (;;)
		pause();
}
