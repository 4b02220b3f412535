package dump

import (
	"context"
	"errors"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/options"
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
	has := func(st *proc.Stat) bool { return st.NumThreads > 0 }
	if st, err := lasting(ask, has, func() error { return nil }); st.NumThreads != 1 || asked != 3 || err != nil {
		t.Errorf("%v, %v, asked %d times", st, err, asked)
	}
	never := func(*proc.Stat) bool { return false }
	ctx, cancel := context.WithCancelCause(context.Background())
	d := &dump{opts: &options.Dump{}}
	cancel(errors.New("told to end"))
	if _, err := lasting(ask, never, d.patience(ctx, noThreads)); err == nil || err.Error() != "told to end" {
		t.Errorf("cancelled: %v", err)
	}
	d.opts.Timeout = 1
	if _, err := lasting(ask, never, d.patience(context.Background(), noThreads)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with a time limit: %v", err)
	}
	if _, err := lasting(ask, never, (&freezer{ctx: ctx}).ended); err == nil {
		t.Error("of a freeze that was cancelled: no error")
	}
}
