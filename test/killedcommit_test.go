package test

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/testkit"
)

// stoppingAt is an engine that stops in front of the first system call of a number, if it
// comes to that.
func stoppingAt(t *testing.T, engine string, trap int, args ...string) *exec.Cmd {
	t.Helper()
	said, err := os.Create(filepath.Join(t.TempDir(), "said"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { said.Close() })
	cmd := exec.Command(engine, args...)
	cmd.Env = append(os.Environ(), fmt.Sprintf("GLIS_STOPS=%d 1", trap), "GLIS_NO_BPF=1")
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// stopped waits until it has stopped, or ended.
func stopped(t *testing.T, cmd *exec.Cmd) bool {
	t.Helper()
	if err := unix.Waitid(unix.P_PID, cmd.Process.Pid, nil, unix.WSTOPPED|unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	return !zombie(cmd.Process.Pid)
}

// killAt kills it where it has stopped, and returns the processes that it leaves: its
// guardian.
func killAt(t *testing.T, cmd *exec.Cmd) []int {
	t.Helper()
	if !stopped(t, cmd) {
		said, _ := os.ReadFile(cmd.Stderr.(*os.File).Name())
		t.Fatalf("it has not come to the system call: %s", said)
	}
	left := childrenOf(t, cmd.Process.Pid)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	return left
}

// childrenOf returns the children of a process, which is stopped.
func childrenOf(t *testing.T, pid int) (pids []int) {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, _ := os.ReadFile(f)
		for _, n := range strings.Fields(string(b)) {
			p, err := strconv.Atoi(n)
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, p)
		}
	}
	return pids
}

// stepsOf is how far targets/steps.c is; it fails if that has found an error.
func stepsOf(t *testing.T, dir string) uint64 {
	t.Helper()
	if said, _ := os.ReadFile(filepath.Join(dir, "error")); len(said) > 0 {
		t.Fatalf("the target says: %s", said)
	}
	b, err := os.ReadFile(filepath.Join(dir, "steps"))
	if err != nil || len(b) < 8 {
		return 0
	}
	return binary.NativeEndian.Uint64(b)
}

func awaitSteps(t *testing.T, dir string, from uint64) {
	t.Helper()
	for end := time.Now().Add(testkit.Patience); stepsOf(t, dir) <= from; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it stands at %d", from)
		}
	}
}

// A tree whose dump is complete takes no step more, also if the engine dies before it has
// killed it, so that the guardian does: it would take it once more when it is restored.
func TestKilledCommitted(t *testing.T) {
	testkit.RequireRoot(t)
	testkit.NoLeaks(t)
	e, faulty := glisOnly(t), faultyEngine(t)
	p := testkit.Start(t, testkit.NewDir(t), testkit.BuildC(t, "targets/steps.c"), ".")
	for range 3 {
		awaitSteps(t, p.Dir, stepsOf(t, p.Dir))
		img := testkit.NewDir(t)
		cmd := stoppingAt(t, faulty, unix.SYS_PIDFD_SEND_SIGNAL, "dump", "-t", strconv.Itoa(p.PID), "-D", img)
		testkit.Reap(t, append(killAt(t, cmd), p.PID))
		at := stepsOf(t, p.Dir)
		e.Restore(t, img)
		awaitSteps(t, p.Dir, at)
	}
}

// While the guardian of an engine that was killed is at its work, no other engine comes to the
// tree: it would take it for one that is stopped anyway, and the guardian would set it free.
func TestKilledTwice(t *testing.T) {
	testkit.RequireRoot(t)
	testkit.NoLeaks(t)
	x := &torture{engine: glisOnly(t), faulty: faultyEngine(t)}
	x.start(t)
	dump := func(more ...string) *exec.Cmd {
		args := []string{"dump", "-t", strconv.Itoa(x.proc.PID), "-D", testkit.NewDir(t), "--tcp-established", "--leave-running"}
		return stoppingAt(t, x.faulty, unix.SYS_SETSOCKOPT, append(args, more...)...) // sockets are in repair mode
	}
	first := dump()
	if !stopped(t, first) {
		t.Fatal("it has ended")
	}
	signal := func(sig unix.Signal, pids []int) {
		for _, p := range pids {
			if err := unix.Kill(p, sig); err != nil {
				t.Fatal(err)
			}
		}
	}
	signal(unix.SIGSTOP, childrenOf(t, first.Process.Pid))
	guardian := killAt(t, first)
	var other []int
	if second := dump("--timeout", "1"); stopped(t, second) {
		t.Error("the second engine has come to the tree")
		signal(unix.SIGSTOP, childrenOf(t, second.Process.Pid))
		other = killAt(t, second)
	} else if err := second.Wait(); err == nil {
		t.Error("the second engine has dumped the tree")
	}
	signal(unix.SIGCONT, guardian)
	testkit.Reap(t, guardian)
	signal(unix.SIGCONT, other)
	testkit.Reap(t, other)
	x.judge(t, fault{}, outcome{})
}
