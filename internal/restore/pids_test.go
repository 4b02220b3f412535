package restore

import (
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A number that is in use is said to be, by whom, and what to do.
func TestNumberInUse(t *testing.T) {
	sleeper, dead := exec.Command("sleep", "1000"), exec.Command("true")
	for _, c := range []*exec.Cmd{sleeper, dead} {
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
	}
	defer func() { _ = dead.Wait() }()
	defer func() { _ = sleeper.Process.Kill(); _ = sleeper.Wait() }()
	if err := unix.Waitid(unix.P_PID, dead.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	nobody := func(uint32) bool { return false }
	for pid, want := range map[int]string{
		sleeper.Process.Pid: "end it",
		dead.Process.Pid:    "was not waited for by its parent",
		unix.Getpid():       ErrOwnNumber.Error(),
	} {
		tr := &tree{tasks: []*task{{pid: uint32(pid), threads: []uint32{uint32(pid)}}}}
		if err := tr.checkPIDs(nobody); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%d: got %v, want %q", pid, err, want)
		}
	}
}
