package tracee

import (
	"io"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/testkit"
)

// What a tracer's thread leaves to its end goes on as what is detached: it gets its
// signals, and stays stopped if it was. It has been let go when RunAndLeave is back.
func TestLeft(t *testing.T) {
	program := testkit.BuildC(t, "testdata/signalled.c")
	for _, tt := range []struct {
		name  string
		held  func(t *testing.T, pid int) // on the tracer's thread
		state byte                        // afterwards; 0: it runs
		heard bool                        // the signal
	}{
		{"stands still", func(t *testing.T, pid int) { interrupted(t, pid); awaited(t, pid) }, 0, false},
		{"about to stop", interrupted, 0, false},
		{"has a signal waiting", func(t *testing.T, pid int) { interrupted(t, pid); awaited(t, pid); kill(t, pid, unix.SIGUSR1) }, 0, true},
		{"stopped by a signal that nobody has seen", func(t *testing.T, pid int) { kill(t, pid, unix.SIGUSR1); stands(t, pid, 't') }, 0, true},
		{"is told to stop", func(t *testing.T, pid int) { interrupted(t, pid); awaited(t, pid); kill(t, pid, unix.SIGSTOP) }, 'T', false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cmd := exec.Command(program)
			out, err := cmd.StdoutPipe()
			if err == nil {
				err = cmd.Start()
			}
			if err != nil {
				t.Fatal(err)
			}
			defer cmd.Wait()         //nolint:errcheck // it is killed
			defer cmd.Process.Kill() //nolint:errcheck // it is there
			pid := cmd.Process.Pid
			heard(t, out, '.')
			if err := RunAndLeave(func() (bool, error) {
				if err := Seize(proc.TID(pid), linux.PTRACE_O_TRACESYSGOOD); err != nil {
					return true, err
				}
				tt.held(t, pid)
				return true, nil
			}); err != nil {
				t.Fatal(err)
			}
			if st := statusOf(t, pid); st.TracerPid != 0 {
				t.Errorf("it is still traced, by %d", st.TracerPid)
			}
			if tt.state != 0 {
				stands(t, pid, tt.state)
				kill(t, pid, unix.SIGCONT)
			}
			if tt.heard {
				heard(t, out, '1')
			}
			kill(t, pid, unix.SIGUSR2)
			heard(t, out, '2')
		})
	}
}

func interrupted(t *testing.T, pid int) {
	if err := Interrupt(proc.TID(pid)); err != nil {
		t.Error(err)
	}
}

func awaited(t *testing.T, pid int) {
	if _, err := WaitTrap(proc.TID(pid)); err != nil {
		t.Error(err)
	}
}

func kill(t *testing.T, pid int, sig unix.Signal) {
	if err := unix.Kill(pid, sig); err != nil {
		t.Error(err)
	}
}

// heard reads one character that the program has written.
func heard(t *testing.T, out io.Reader, want byte) {
	t.Helper()
	var b [1]byte
	if _, err := io.ReadFull(out, b[:]); err != nil || b[0] != want {
		t.Fatalf("it wrote %q (%v), want %q", b, err, want)
	}
}

// stands waits for a state, of which nobody but /proc tells.
func stands(t *testing.T, pid int, want byte) {
	t.Helper()
	for end := time.Now().Add(testkit.Patience); state(t, proc.PID(pid)) != want; sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Errorf("its state is %c, want %c", state(t, proc.PID(pid)), want)
			return
		}
	}
}

func statusOf(t *testing.T, pid int) proc.Status {
	t.Helper()
	dir, err := proc.Open(proc.PID(pid))
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	st, err := dir.Status()
	if err != nil {
		t.Fatal(err)
	}
	return st
}
