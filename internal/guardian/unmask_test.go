package guardian

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/testkit"
	"glis.dev/glis/internal/tracee"
)

// unbrakesEnv has a process of this program take the brake off a process as a restore does.
const unbrakesEnv = "GLIS_TEST_UNBRAKES"

const blocked = 1<<(unix.SIGUSR1-1) | 1<<(unix.SIGTERM-1)

// unbrakes says the number of the process and of its own thread that traces it, and goes on
// when it is told to.
func unbrakes() {
	if os.Getenv(unbrakesEnv) == "" {
		return
	}
	err := tracee.Run(func() error {
		pid, err := syscall.ForkExec("/bin/sleep", []string{"sleep", "1000"}, &syscall.ProcAttr{})
		if err != nil {
			return err
		}
		tid := proc.TID(pid)
		if err := errors.Join(tracee.Seize(tid, linux.PTRACE_O_TRACESYSGOOD), tracee.Interrupt(tid)); err != nil {
			return err
		}
		if _, err := tracee.WaitTrap(tid); err != nil {
			return err
		}
		if err := errors.Join(tracee.SetSigmask(tid, blocked), tracee.Brake(proc.PID(pid))); err != nil {
			return err
		}
		fmt.Println(pid, unix.Gettid())
		if _, err := unix.Read(0, make([]byte, 1)); err != nil {
			return err
		}
		if err := tracee.Unbrake(proc.PID(pid), blocked); err != nil {
			return err
		}
		return tracee.Detach(tid, 0)
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// unbraking is such a process whose tracing thread is traced.
type unbraking struct {
	cmd    *exec.Cmd
	braked proc.PID
	tracer proc.TID
}

func startUnbraking() (*unbraking, error) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), unbrakesEnv+"=1", "GODEBUG=asyncpreemptoff=1")
	cmd.Stderr = os.Stderr
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		return nil, err
	}
	u := &unbraking{cmd: cmd}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return nil, err
	}
	if _, err := fmt.Sscan(line, &u.braked, &u.tracer); err != nil {
		return nil, err
	}
	if err := errors.Join(tracee.Seize(u.tracer, linux.PTRACE_O_TRACESYSGOOD), tracee.Interrupt(u.tracer)); err != nil {
		return nil, err
	}
	if _, err := tracee.WaitTrap(u.tracer); err != nil {
		return nil, err
	}
	_, err = in.Write([]byte{1})
	return u, err
}

// killed has it go on for so many beginnings and ends of system calls and kills it, unless
// it has ended before, which is told.
func (u *unbraking) killed(stops int) (ended bool, err error) {
	for range stops {
		if err := tracee.ContSyscall(u.tracer); err != nil && !errors.Is(err, tracee.ErrGone) { // others end it
			return false, err
		}
		s, err := tracee.Wait(u.tracer)
		if err != nil || s.Exited() {
			return true, errors.Join(err, u.cmd.Wait())
		}
	}
	if err := u.cmd.Process.Kill(); err != nil {
		return false, err
	}
	_, err = tracee.Wait(u.tracer)
	_ = u.cmd.Wait() // it was killed
	return false, err
}

// settled returns what a process does and which signals it blocks, when it does nothing any
// more.
func settled(pid proc.PID, want string) (byte, uint64, error) {
	dir, err := proc.Open(pid)
	if err != nil {
		return 0, 0, err
	}
	defer dir.Close()
	for end := time.Now().Add(testkit.Patience); ; time.Sleep(100 * time.Microsecond) {
		st, err1 := dir.Stat()
		status, err2 := dir.Status()
		if err := errors.Join(err1, err2); err != nil {
			return 0, 0, err
		}
		stops := (status.SigPnd|status.ShdPnd)>>(unix.SIGSTOP-1)&1 != 0
		if strings.ContainsRune(want, rune(st.State)) && !stops && status.TracerPid == 0 {
			return st.State, status.SigBlk, nil
		}
		if time.Now().After(end) {
			return 0, 0, fmt.Errorf("process %d: state %c, %+v", pid, st.State, status)
		}
	}
}

// An engine that dies while it takes a brake off, at whatever system call, leaves a process
// that runs with the signal mask it had, or one that stands until the guardian has given it
// that.
func TestUnmask(t *testing.T) {
	stood := 0
	for stops, ended := 0, false; !ended; stops++ {
		err := tracee.Run(func() (err error) {
			u, err := startUnbraking()
			if err != nil {
				return err
			}
			defer unix.Kill(int(u.braked), unix.SIGKILL)
			if ended, err = u.killed(stops); err != nil {
				return err
			}
			state, mask, err := settled(u.braked, "ST")
			if err != nil {
				return err
			}
			if state == 'S' && mask != blocked {
				t.Errorf("%d stops: it runs and blocks %#x", stops, mask)
			}
			if state == 'T' && mask == tracee.AllSignals {
				stood++
			}
			s := story{braked: []proc.PID{u.braked}, masks: map[proc.PID]uint64{u.braked: blocked}}
			if err := errors.Join(s.unmask(), s.goOn()); err != nil {
				return err
			}
			if _, mask, err = settled(u.braked, "S"); mask != blocked {
				t.Errorf("%d stops: behind the guardian it blocks %#x", stops, mask)
			}
			return err
		})
		if err != nil {
			t.Fatalf("%d stops: %v", stops, err)
		}
		if stops > 200 {
			t.Fatal("it does not end")
		}
	}
	if stood == 0 {
		t.Error("no process stood with all signals blocked")
	}
}

// Who blocks all signals by its own choice is left so.
func TestUnmaskRuns(t *testing.T) {
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := proc.PID(cmd.Process.Pid)
	defer func() {
		_ = cmd.Process.Kill() // it is there
		_ = cmd.Wait()         // it was killed
	}()
	err := tracee.Run(func() error {
		tid := proc.TID(pid)
		if err := errors.Join(tracee.Seize(tid, 0), tracee.Interrupt(tid)); err != nil {
			return err
		}
		if _, err := tracee.WaitTrap(tid); err != nil {
			return err
		}
		return errors.Join(tracee.SetSigmask(tid, tracee.AllSignals), tracee.Detach(tid, 0))
	})
	s := story{masks: map[proc.PID]uint64{pid: 0}}
	if err := errors.Join(err, s.unmask()); err != nil {
		t.Fatal(err)
	}
	if _, mask, err := settled(pid, "S"); err != nil || mask != tracee.AllSignals {
		t.Errorf("it blocks %#x, %v", mask, err)
	}
}
