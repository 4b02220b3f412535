package stub

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// watch starts a Watch that would execute /bin/false, and returns what its
// maker has.
func watch(t *testing.T) (line, pid int) {
	t.Helper()
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	exe, err := os.Open("/bin/false")
	if err != nil {
		t.Fatal(err)
	}
	defer exe.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	w := Watch{Files: []int{int(null.Fd()), int(null.Fd()), int(null.Fd()), p[1], int(exe.Fd())}, Line: 3, Exe: 4, Argv: []string{"false", "x"}, Env: []string{"A=b"}}
	b, err := w.Begin()
	if err == nil {
		err = b.Wait()
	}
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(p[1])
	return p[0], b.PID
}

// awaitBlocked waits until a process blocks what it is to, which it does first.
func awaitBlocked(t *testing.T, pid int) {
	t.Helper()
	for {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(status), fmt.Sprintf("SigBlk:\t%016x\n", blocked())) {
			return
		}
	}
}

func ended(t *testing.T, pid int) int {
	t.Helper()
	var ws unix.WaitStatus
	if _, err := unix.Wait4(pid, &ws, 0, nil); err != nil || !ws.Exited() {
		t.Fatalf("wait status %#x, %v", ws, err)
	}
	return ws.ExitStatus()
}

func TestWatchExecutes(t *testing.T) {
	line, pid := watch(t)
	awaitBlocked(t, pid)
	for _, s := range []unix.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP} { // harmless
		if err := unix.Kill(pid, s); err != nil {
			t.Fatal(err)
		}
	}
	unix.Close(line)
	if got := ended(t, pid); got != 1 {
		t.Errorf("exit status %d, want that of false", got)
	}
}

func TestWatchIsToldToEnd(t *testing.T) {
	line, pid := watch(t)
	if _, err := unix.Write(line, []byte{1}); err != nil {
		t.Fatal(err)
	}
	unix.Close(line)
	if got := ended(t, pid); got != 0 {
		t.Errorf("exit status %d, want 0", got)
	}
}

func TestWatchTooMuch(t *testing.T) {
	w := Watch{Files: []int{0}, Argv: []string{string(make([]byte, Size))}}
	if _, err := w.Begin(); err == nil {
		t.Error("more than a page was started")
	}
}
