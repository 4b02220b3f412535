package tracee

import (
	"context"
	"errors"
	"io"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// A thread that executes a program stops although it waits for the end of the others,
// which the kernel keeps until their tracer has heard of it.
func TestStopsWhileItExecutes(t *testing.T) {
	cmd := exec.Command(testkit.BuildC(t, "testdata/exec.c"))
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()         //nolint:errcheck // it is killed
	defer cmd.Process.Kill() //nolint:errcheck // it is there
	if _, err := io.ReadFull(out, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	dir, err := proc.Open(proc.PID(cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	tids, err := dir.Threads()
	if err != nil || len(tids) != 5 {
		t.Fatalf("threads %v, %v", tids, err)
	}
	onTracer(t, func() {
		for _, tid := range tids {
			if err := Seize(tid, 0); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := in.Write([]byte{1}); err != nil {
			t.Fatal(err)
		}
		end := time.Now().Add(testkit.Patience)
		for _, tid := range tids[1:] {
			for {
				if st, err := dir.ThreadStat(tid); err != nil || st.State == 'Z' {
					break
				}
				if time.Now().After(end) {
					t.Fatal("the other threads live on")
				}
				unix.Nanosleep(&unix.Timespec{Nsec: 1e6}, nil)
			}
		}
		if err := Interrupt(tids[0]); err != nil {
			t.Fatal(err)
		}
		_, err := WaitTrapUntil(tids[0], func() error {
			if time.Now().After(end) {
				return context.DeadlineExceeded
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}
