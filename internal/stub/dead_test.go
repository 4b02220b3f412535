package stub

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/testkit"
)

// A process that ends as it should is gone when its pidfd is handed out.
func TestDead(t *testing.T) {
	testkit.RequireRoot(t)
	for _, status := range []unix.WaitStatus{0, 42 << 8, 255 << 8, unix.WaitStatus(unix.SIGKILL), unix.WaitStatus(unix.SIGSEGV), unix.WaitStatus(unix.SIGCHLD)} {
		d, err := Dead(status)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.PidfdSendSignal(d.Int(), 0, nil, 0); !errors.Is(err, unix.ESRCH) {
			t.Errorf("%#x: the process is there: %v", uint32(status), err)
		}
		got, ok := linux.PidfdExit(d.Int())
		if status == unix.WaitStatus(unix.SIGCHLD) {
			status = unix.WaitStatus(unix.SIGKILL) // nobody can end by that one
		}
		if ok && got != uint32(status) {
			t.Errorf("ended with %#x, want %#x", got, uint32(status))
		}
		d.Close()
	}
}
