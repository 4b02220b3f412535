package tracee

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
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
			testkit.Poll(t, "the others end", func() bool {
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
		testkit.Poll(t, "the program is executed", func() bool {
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

// A thread that was seized by the number it had while it executed a program, and is another
// one's since, or nobody's, can't be asked to stop by that; it stops nevertheless.
func TestStopsSeizedByOldNumber(t *testing.T) {
	p, let := executesLong(t)
	onTracer(t, func() {
		noSignals(t)
		seizeAll(t, p.tids[:1])
		p.waits(t)
		onceSeizing(t, let)
		defer ReapOthers(p.tids[0])()
		// Without PTRACE_O_TRACEEXEC, as if it was seized after the stop that this is for.
		if err := NewSeizing().Seize(p.tids[4], 0); err != nil {
			t.Error(err)
		}
		if err := Interrupt(p.tids[4]); !errors.Is(err, ErrGone) {
			t.Errorf("asked by the old number: %v", err)
		}
		p.executed(t)
		if err := Still(p.tids[0], untilPatience()); err != nil {
			t.Error(err)
		}
		if _, err := Regs(p.tids[0]); err != nil {
			t.Error(err)
		}
	})
}

// A report of a thread that lives is left to its waiter.
func TestReapsDeadOnly(t *testing.T) {
	p := startExecuting(t)
	onTracer(t, func() {
		seizeAll(t, p.tids[:1])
		if err := Interrupt(p.tids[0]); err != nil {
			t.Error(err)
		}
		testkit.Poll(t, "it stops", func() bool {
			reapOne(p.tids[0])
			_, err := Regs(p.tids[0])
			return err == nil
		})
		reapOne(p.tids[0])
		if s, ok, err := TryWait(p.tids[0]); err != nil || !ok || !s.Trap() {
			t.Errorf("%v, %v, %v", s, ok, err)
		}
	})
}

// executesLong has the last thread of a process execute a program, and wait where nobody
// can seize one of its process, until it is let.
func executesLong(t *testing.T) (p *executing, let func()) {
	t.Helper()
	script, let := testkit.Leased(t)
	p = startExecuting(t, script)
	stuck := time.AfterFunc(testkit.Patience, func() { p.Process.Kill() })
	t.Cleanup(func() {
		if !stuck.Stop() {
			t.Error("it waits for ever")
		}
	})
	return p, let
}

// waits waits until the last thread is about to execute the program.
func (p *executing) waits(t *testing.T) {
	p.tell()
	testkit.Poll(t, "the program is about to be executed", func() bool {
		at, err := p.dir.Thread(p.tids[4]).ReadFile("wchan")
		return err == nil && string(at) == testkit.WaitsToExecute
	})
}

// executed waits until it has.
func (p *executing) executed(t *testing.T) {
	testkit.Poll(t, "the program is executed", func() bool {
		comm, err := p.dir.Comm()
		return err == nil && comm == "script"
	})
}

// onceSeizing calls f when this thread, which is the tracer's, waits to seize another one.
func onceSeizing(t *testing.T, f func()) {
	me := fmt.Sprintf("/proc/self/task/%d/wchan", unix.Gettid())
	go func() {
		testkit.Poll(t, "the tracer waits", func() bool {
			b, err := os.ReadFile(me)
			return err == nil && string(b) == "ptrace_attach"
		})
		f()
	}()
}

// noSignals blocks the signals of this thread: one would have a seize that waits look anew,
// when there is nobody to seize.
func noSignals(t *testing.T) {
	all := unix.Sigset_t{}
	for i := range all.Val {
		all.Val[i] = ^uint64(0)
	}
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, &all, nil); err != nil {
		t.Error(err)
	}
}

// To seize a thread beside one that is about to execute a program lasts until it has,
// and it waits for the ends of the others.
func TestSeizedWhileItExecutes(t *testing.T) {
	p, let := executesLong(t)
	onTracer(t, func() {
		noSignals(t)
		seizeAll(t, p.tids[:3])
		p.waits(t)
		onceSeizing(t, let)
		defer ReapOthers(p.tids[0])()
		// It waits for it as long as the other does. Then it is gone itself.
		if err := NewSeizing().Seize(p.tids[3], 0); !errors.Is(err, ErrGone) && !errors.Is(err, unix.EPERM) {
			t.Errorf("seized a thread that has ended: %v", err)
		}
		p.executed(t)
	})
}

// A seize that waits for a long execve(2) can be ended. Nothing is left of that: the
// program is executed as it would have been, and the signal has the handler it had.
func TestSeizeEnded(t *testing.T) {
	var was, is linux.Sigaction
	if err := (*linux.Sigaction)(nil).Set(endSignal, &was); err != nil {
		t.Fatal(err)
	}
	p, let := executesLong(t)
	onTracer(t, func() {
		p.waits(t)
		s, ended := NewSeizing(), make(chan struct{})
		onceSeizing(t, func() {
			s.End()
			close(ended)
		})
		for range 2 { // also such that begin afterwards
			if err := s.Seize(p.tids[0], 0); !errors.Is(err, unix.EINTR) {
				t.Errorf("it was ended, and says %v", err)
			}
		}
		<-ended
	})
	if err := (*linux.Sigaction)(nil).Set(endSignal, &is); err != nil || is != was {
		t.Errorf("the signal is handled by %+v, %v, and was by %+v", is, err, was)
	}
	let()
	p.executed(t)
}

// Several that are ended at the same time share the signal, and none of theirs meets whoever
// has it otherwise: here that would be the end of the program, as it is where the program
// is not Go's.
func TestSeizesEnded(t *testing.T) {
	var deadly, was, is linux.Sigaction
	p, let := executesLong(t)
	p.waits(t)
	if err := deadly.Set(endSignal, &was); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 50 {
				onTracer(t, func() {
					s := NewSeizing()
					time.AfterFunc(time.Duration(i)*10*time.Microsecond, s.End)
					if err := s.Seize(p.tids[0], 0); !errors.Is(err, unix.EINTR) {
						t.Errorf("it was ended, and says %v", err)
					}
				})
			}
		})
	}
	wg.Wait()
	if err := was.Set(endSignal, &is); err != nil || is != deadly {
		t.Errorf("the signal is handled by %+v, %v, and was by %+v", is, err, deadly)
	}
	let()
	p.executed(t)
}
