package testkit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Proc is a running target: a process tree named by its root.
//
// A target that knows the save point protocol writes what it sees to obs.N in
// its folder, makes at.N, waits for go.N and sees again; once the file "end" is
// there it writes its last observation and exits with 0. Nothing stays open and
// no signal is used, so the protocol itself has no state to save.
type Proc struct {
	PID int    // in the test's PID namespace; the same after a restore
	Dir string // the target's folder and first working directory
}

// NewDir returns an empty folder anybody may write to. Unlike t.TempDir its
// parents can be entered by targets that drop root.
func NewDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "glis-run-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Start runs argv in dir, in a session of its own and with /dev/null as its
// standard files. The tree is killed at the end of the test.
func Start(t testing.TB, dir string, argv ...string) *Proc {
	t.Helper()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	return StartWith(t, dir, &os.ProcAttr{
		Files: []*os.File{null, null, null},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	}, argv...)
}

// StartWith is Start with descriptors and a session of the caller's choice.
func StartWith(t testing.TB, dir string, attr *os.ProcAttr, argv ...string) *Proc {
	t.Helper()
	attr.Dir = dir
	if attr.Env == nil {
		attr.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "LANG=C.UTF-8"}
	}
	p, err := os.StartProcess(argv[0], argv, attr)
	if err != nil {
		t.Fatalf("start %s: %v", argv[0], err)
	}
	proc := &Proc{PID: p.Pid, Dir: dir}
	// The kit waits by number: after a restore the same number is another child.
	if err := p.Release(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { proc.Kill() })
	return proc
}

// AwaitAt blocks until the target waits at save point n.
func (p *Proc) AwaitAt(t testing.TB, n int) {
	t.Helper()
	AwaitFile(t, filepath.Join(p.Dir, "at."+strconv.Itoa(n)), p.PID)
}

// Go lets the target leave save point n; last makes it the final one.
func (p *Proc) Go(t testing.TB, n int, last bool) {
	t.Helper()
	if last {
		touch(t, filepath.Join(p.Dir, "end"))
	}
	touch(t, filepath.Join(p.Dir, "go."+strconv.Itoa(n)))
}

func touch(t testing.TB, path string) {
	t.Helper()
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
}

// Wait reaps the root task and returns its wait status (wait4(2)).
func (p *Proc) Wait(t testing.TB) unix.WaitStatus {
	t.Helper()
	ws, err := waitPID(p.PID, Patience)
	if err != nil {
		t.Fatalf("wait for %d: %v%s", p.PID, err, targetError(p.Dir))
	}
	return ws
}

// WaitExit fails the test unless the root task exits with this code.
func (p *Proc) WaitExit(t testing.TB, code int) {
	t.Helper()
	if ws := p.Wait(t); !ws.Exited() || ws.ExitStatus() != code {
		t.Errorf("process %d ended with %s, want exit status %d%s", p.PID, describe(ws), code, targetError(p.Dir))
	}
}

// describe says how a process ended.
func describe(ws unix.WaitStatus) string {
	if ws.Signaled() {
		return fmt.Sprintf("signal %d (%s)", ws.Signal(), ws.Signal())
	}
	return fmt.Sprintf("exit status %d", ws.ExitStatus())
}

// waitPID waits until a child ends and reaps it.
func waitPID(pid int, patience time.Duration) (unix.WaitStatus, error) {
	var ws unix.WaitStatus
	pfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return ws, fmt.Errorf("pidfd_open: %w", err)
	}
	defer unix.Close(pfd)
	fds := []unix.PollFd{{Fd: int32(pfd), Events: unix.POLLIN}}
	if err := pollUntil(fds, time.Now().Add(patience)); err != nil {
		return ws, err
	}
	for {
		_, err = unix.Wait4(pid, &ws, 0, nil)
		if err != unix.EINTR {
			return ws, err
		}
	}
}

// Kill ends the whole tree and reaps it. A tree that is gone is fine.
func (p *Proc) Kill() {
	// The number may be somebody else's by now.
	if !slices.Contains(Tree(os.Getpid()), p.PID) {
		return
	}
	tree := Tree(p.PID)
	for _, pid := range tree {
		// A stopped tree does not fork, so one pass kills all of it.
		_ = unix.Kill(pid, unix.SIGSTOP)
	}
	tree = Tree(p.PID)
	for _, pid := range tree {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
	_ = reap(tree)
}

// reap waits until none of these processes exists any more, not even as a
// zombie. Orphans of a killed tree are children of this process by then.
func reap(pids []int) error {
	for _, pid := range pids {
		_, err := waitPID(pid, Patience)
		switch {
		case err == nil, errors.Is(err, unix.ESRCH):
		case errors.Is(err, unix.ECHILD):
			if err := awaitGone(pid); err != nil {
				return err
			}
		default:
			return fmt.Errorf("reap %d: %w", pid, err)
		}
	}
	return nil
}

// awaitGone waits for a process that another one has to reap first. There is
// no event for being reaped by somebody else, or for being handed to the
// subreaper once already dead, so this one looks again and again.
func awaitGone(pid int) error {
	for end := time.Now().Add(Patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if _, err := unix.Wait4(pid, nil, unix.WNOHANG, nil); err == nil {
			return nil
		}
		if unix.Kill(pid, 0) == unix.ESRCH {
			return nil
		}
	}
	return fmt.Errorf("process %d still exists", pid)
}

// reapDead reaps those of these processes that are zombies and ours.
func reapDead(pids []int) {
	for _, pid := range pids {
		_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil)
	}
}

// Reap waits until the processes are gone, whoever their parent is.
func Reap(t testing.TB, pids []int) {
	t.Helper()
	if err := reap(pids); err != nil {
		t.Fatal(err)
	}
}

// Told awaits a file of the target's folder, and returns what the target wrote there.
func (p *Proc) Told(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join(p.Dir, name)
	AwaitFile(t, path, p.PID)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}
