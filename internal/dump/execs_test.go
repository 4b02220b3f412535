package dump

import (
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/scan"
)

// A task none of whose threads was to be had has ended, or one executes a program.
func TestUnseen(t *testing.T) {
	cmd := exec.Command("sleep", "1000")
	must(t, cmd.Start())
	dir, err := proc.Open(proc.PID(cmd.Process.Pid))
	must(t, err)
	defer dir.Close()
	task := &scan.Task{PID: dir.PID(), Dir: dir}
	expect := func(want bool, when string) {
		if got, err := unseen(task); got != want || err != nil {
			t.Errorf("%s: %v, %v", when, got, err)
		}
	}
	expect(true, "it lives")
	task.Threads = []*scan.Thread{{Task: task}}
	expect(false, "it was seized")
	task.Threads = nil
	must(t, cmd.Process.Kill())
	var info unix.Siginfo
	must(t, unix.Waitid(unix.P_PID, cmd.Process.Pid, &info, unix.WEXITED|unix.WNOWAIT, nil))
	expect(false, "a zombie")
	_ = cmd.Wait() // it was killed
	expect(false, "gone")
}

// Who has no threads is asked again: it is about to be another one.
func TestLasting(t *testing.T) {
	asked := int64(0)
	ask := func() (proc.Stat, error) { asked++; return proc.Stat{State: 'Z', NumThreads: asked / 3}, nil }
	if st, err := lasting(ask, func(st *proc.Stat) bool { return st.NumThreads > 0 }); st.NumThreads != 1 || asked != 3 || err != nil {
		t.Errorf("%v, %v, asked %d times", st, err, asked)
	}
}
