package restore

import (
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/testkit"
)

// A task is not braked, as the kernel would forget a SIGCONT over that, if one waits for any
// thread of it by the images, or if that can't be known.
func TestWaits(t *testing.T) {
	other := exec.Command(testkit.RequireProgram(t, "sleep", "coreutils"), "1000")
	must(t, other.Start())
	defer func() {
		must(t, other.Process.Kill())
		_ = other.Wait() // it was killed
	}()
	const sigcont, sigusr1 = 1 << (unix.SIGCONT - 1), 1 << (unix.SIGUSR1 - 1)
	for _, x := range []struct {
		name   string
		pid    int
		images []thread
		want   bool
	}{
		{"nothing", other.Process.Pid, []thread{{}, {waiting: sigusr1}}, false},
		{"for the first thread", other.Process.Pid, []thread{{waiting: sigcont}, {}}, true},
		{"for another thread", other.Process.Pid, []thread{{}, {}, {waiting: sigcont | sigusr1}}, true},
		{"nobody", 1<<22 + 1, []thread{{}}, true},
	} {
		if got := waits(&task{pid: uint32(x.pid), images: x.images}); got != x.want {
			t.Errorf("%s: %v", x.name, got)
		}
	}
}
