package dump

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/scan"
)

// Of a dump that failed since its target was killed the message says so, and
// not of one that failed by something else.
func TestIfKilled(t *testing.T) {
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	dir, err := proc.Open(proc.PID(cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	task := &scan.Task{PID: proc.PID(cmd.Process.Pid), Dir: dir, Stat: proc.Stat{Comm: "sleep"}}
	tree := &scan.Tree{}
	tree.Add(task)
	d, failed := &dump{tree: tree}, errors.New("read memory")
	says := func(err error) bool { return strings.Contains(d.ifKilled(t.Context(), err).Error(), "was killed") }
	if says(failed) {
		t.Error("it lives")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	if !says(failed) || !errors.Is(d.ifKilled(t.Context(), failed), failed) {
		t.Errorf("killed: %v", d.ifKilled(t.Context(), failed))
	}
	if says(kind.Unsupported(task, "why")) {
		t.Error("a state that isn't supported is not one that was killed")
	}
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.ifKilled(stopped, failed); err != failed {
		t.Errorf("stopped by the user: %v", err)
	}
	for flags, want := range map[uint64]bool{0: false, proc.PFExiting: true} {
		if st := (proc.Stat{State: 'R', Flags: flags}); st.Exiting() != want {
			t.Errorf("state R, flags %#x: exiting %t", flags, !want)
		}
	}
	if task.Zombie = true; says(failed) {
		t.Error("it was dead before")
	}
}

// A process that ends right before it is stopped is said to have ended.
func TestEndedMeanwhile(t *testing.T) {
	cmd := exec.Command("true")
	must(t, cmd.Start())
	var info unix.Siginfo
	must(t, unix.Waitid(unix.P_PID, cmd.Process.Pid, &info, unix.WEXITED|unix.WNOWAIT, nil)) // it stays, as a zombie
	f := &freezer{tree: &scan.Tree{}, known: func(*scan.Task) error { return nil }}
	if _, err := f.open(proc.PID(cmd.Process.Pid)); err == nil || !strings.Contains(err.Error(), "has ended meanwhile") {
		t.Errorf("got %v", err)
	}
	must(t, cmd.Wait())
}
