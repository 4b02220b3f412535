package tracee

import (
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/proc"
)

// seized starts a process that sleeps and stops it.
func seized(t *testing.T) proc.PID {
	t.Helper()
	pid, err := syscall.ForkExec("/bin/sleep", []string{"sleep", "1000"}, &syscall.ProcAttr{Env: os.Environ()})
	if err != nil {
		t.Fatal(err)
	}
	tid := proc.TID(pid)
	for _, err := range []error{Seize(tid, linux.PTRACE_O_TRACESYSGOOD), Interrupt(tid)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := WaitTrap(tid); err != nil {
		t.Fatal(err)
	}
	return proc.PID(pid)
}

func state(t *testing.T, pid proc.PID) byte {
	t.Helper()
	dir, err := proc.Open(pid)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	st, err := dir.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return st.State
}

func finish(t *testing.T, pid proc.PID) {
	t.Helper()
	if err := unix.Kill(int(pid), unix.SIGKILL); err != nil {
		t.Error(err)
	}
	if _, err := unix.Wait4(int(pid), nil, linux.WALL, nil); err != nil {
		t.Error(err)
	}
}

// onTracer runs a test on one thread, as ptrace(2) wants it.
func onTracer(t *testing.T, f func()) {
	t.Helper()
	if err := Run(func() error { f(); return nil }); err != nil {
		t.Error(err)
	}
}

// A task whose brake is taken off goes on, also if a trap of ptrace's own comes
// before the SIGSTOP.
func TestUnbrake(t *testing.T) {
	for _, trap := range []bool{false, true} {
		onTracer(t, func() {
			pid := seized(t)
			defer finish(t, pid)
			if err := Brake(pid); err != nil {
				t.Fatal(err)
			}
			if trap {
				if err := Interrupt(proc.TID(pid)); err != nil {
					t.Fatal(err)
				}
			}
			if err := Unbrake(pid, 0); err != nil {
				t.Fatal(err)
			}
			if waits, err := waitsFor(proc.TID(pid), unix.SIGSTOP); waits || err != nil {
				t.Errorf("trap %v: a SIGSTOP waits still (%v)", trap, err)
			}
			if mask, err := Sigmask(proc.TID(pid)); mask != 0 || err != nil {
				t.Errorf("mask %#x, %v", mask, err)
			}
			if err := Detach(proc.TID(pid), 0); err != nil {
				t.Fatal(err)
			}
			if s := state(t, pid); s == 'T' || s == 't' {
				t.Errorf("trap %v: state %c", trap, s)
			}
		})
	}
}

// A braked task whose tracer dies stops before it runs.
func TestBrakeHolds(t *testing.T) {
	var pid proc.PID
	onTracer(t, func() {
		pid = seized(t)
		if err := Brake(pid); err != nil {
			t.Fatal(err)
		}
	}) // the thread ends here, and the kernel lets its tracees go
	defer finish(t, pid)
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_PID, int(pid), &info, unix.WSTOPPED, nil); err != nil {
		t.Fatal(err)
	}
	if s := state(t, pid); s != 'T' {
		t.Errorf("state %c", s)
	}
}
