package tracee

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// executing is a process with threads of which one executes a program when it is told.
type executing struct {
	*exec.Cmd
	dir  *proc.Dir
	tids []proc.TID
	tell func()
}

func startExecuting(t *testing.T, args ...string) *executing {
	t.Helper()
	cmd := exec.Command(testkit.BuildC(t, "testdata/exec.c"), args...)
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill() //nolint:errcheck // it is there
		cmd.Wait()         //nolint:errcheck // it was killed
	})
	if _, err := io.ReadFull(out, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	dir, err := proc.Open(proc.PID(cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	tids, err := dir.Threads()
	if err != nil || len(tids) != 5 {
		t.Fatalf("threads %v, %v", tids, err)
	}
	return &executing{cmd, dir, tids, func() {
		if _, err := in.Write([]byte{1}); err != nil {
			t.Error(err)
		}
	}}
}

func seizeAll(t *testing.T, tids []proc.TID) {
	for _, tid := range tids {
		if err := Seize(tid, linux.PTRACE_O_TRACEEXEC); err != nil {
			t.Error(err)
		}
	}
}

// until waits until something is so, and then for no longer.
func until(t *testing.T, what string, so func() bool) {
	for end := time.Now().Add(testkit.Patience); !so(); {
		if time.Now().After(end) {
			t.Errorf("waited in vain: %s", what)
			return
		}
		unix.Nanosleep(&unix.Timespec{Nsec: 1e6}, nil)
	}
}

func untilPatience() func() error {
	end := time.Now().Add(testkit.Patience)
	return func() error {
		if time.Now().After(end) {
			return context.DeadlineExceeded
		}
		return nil
	}
}

// A thread that executes a program stops although it waits for the end of the others,
// which the kernel keeps until their tracer has heard of it.
func TestStopsWhileItExecutes(t *testing.T) {
	p := startExecuting(t)
	onTracer(t, func() {
		seizeAll(t, p.tids)
		p.tell()
		for _, tid := range p.tids[1:] {
			until(t, "the others end", func() bool {
				st, err := p.dir.ThreadStat(tid)
				return err != nil || st.State == 'Z'
			})
		}
		if err := Interrupt(p.tids[0]); err != nil {
			t.Error(err)
		}
		if _, err := WaitTrapUntil(p.tids[0], untilPatience()); err != nil {
			t.Error(err)
		}
	})
}

// A thread that was seized, but not asked to stop before it has another number, that of
// the first, stops under that.
func TestStopsUnderAnotherNumber(t *testing.T) {
	p := startExecuting(t, "/bin/sleep")
	onTracer(t, func() {
		seizeAll(t, p.tids)
		if err := Interrupt(p.tids[0]); err != nil {
			t.Error(err)
		}
		if _, err := WaitTrapUntil(p.tids[0], untilPatience()); err != nil {
			t.Error(err)
		}
		p.tell()
		// The first stood, and is another one now.
		until(t, "the program is executed", func() bool {
			reapDead(p.tids[0])
			comm, err := p.dir.Comm()
			return err == nil && comm == "sleep"
		})
		if err := Still(p.tids[0], untilPatience()); err != nil {
			t.Error(err)
		}
		if _, err := Regs(p.tids[0]); err != nil {
			t.Error(err)
		}
		if s, ok, err := TryWait(p.tids[0]); ok || err != nil {
			t.Errorf("there is more to hear of: %v, %v", s, err)
		}
	})
}

// To seize a thread beside one that is about to execute a program lasts until it has,
// and it waits for the ends of the others.
func TestSeizedWhileItExecutes(t *testing.T) {
	at := t.TempDir()
	script, interpreter := scriptIn(t, at)
	f, err := os.Open(interpreter)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	// Who executes it waits where nobody can seize one of its process.
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		t.Skipf("no leases in %s: %v", at, err)
	}
	p := startExecuting(t, script)
	last := p.tids[4]
	stuck := time.AfterFunc(testkit.Patience, func() { p.Process.Kill() })
	defer stuck.Stop()
	onTracer(t, func() {
		all := unix.Sigset_t{}
		for i := range all.Val {
			all.Val[i] = ^uint64(0)
		}
		if err := unix.PthreadSigmask(unix.SIG_BLOCK, &all, nil); err != nil {
			t.Error(err) // a signal would have it look anew, when there is nobody to seize
		}
		seizeAll(t, p.tids[:3])
		p.tell()
		until(t, "the program is about to be executed", func() bool {
			at, err := p.dir.Thread(last).ReadFile("wchan")
			return err == nil && string(at) == "__break_lease"
		})
		me := fmt.Sprintf("/proc/self/task/%d/wchan", unix.Gettid())
		go func() {
			until(t, "the tracer waits", func() bool {
				b, err := os.ReadFile(me)
				return err == nil && string(b) == "ptrace_attach"
			})
			if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_UNLCK); err != nil {
				t.Error(err)
			}
		}()
		defer ReapOthers(p.tids[0])()
		// It waits for it as long as the other does. Then it is gone itself.
		if err := SeizeBeside(p.tids[3], 0); !errors.Is(err, ErrGone) && !errors.Is(err, unix.EPERM) {
			t.Errorf("seized a thread that has ended: %v", err)
		}
		until(t, "the program is executed", func() bool {
			comm, err := p.dir.Comm()
			return err == nil && comm == "script"
		})
	})
	if !stuck.Stop() {
		t.Error("it waits for ever")
	}
}

// scriptIn makes a script in a directory, and an interpreter of its own, which sleeps.
func scriptIn(t *testing.T, at string) (script, interpreter string) {
	t.Helper()
	sleep, err := os.ReadFile("/bin/sleep")
	if err != nil {
		t.Fatal(err)
	}
	interpreter, script = filepath.Join(at, "interpreter"), filepath.Join(at, "script")
	if err := errors.Join(os.WriteFile(interpreter, sleep, 0o700), os.WriteFile(script, []byte("#!"+interpreter+"\n"), 0o700)); err != nil {
		t.Fatal(err)
	}
	return script, interpreter
}
