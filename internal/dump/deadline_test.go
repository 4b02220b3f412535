package dump

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"glis.dev/glis/image"
	"glis.dev/glis/internal/testkit"
	"glis.dev/glis/options"
)

// crowd starts a target that takes long to dump. GLIS_CROWD="1024 10000 4000"
// says how much memory (MiB), how many mappings and threads it has.
func crowd(t *testing.T) *testkit.Proc {
	t.Helper()
	size := os.Getenv("GLIS_CROWD")
	if size == "" {
		size = "32 1000 100"
	}
	argv := append([]string{testkit.BuildC(t, "../../test/targets/crowd.c")}, strings.Fields(size)...)
	p := testkit.Start(t, testkit.NewDir(t), append(argv, ".")...)
	beats(t, p, 3)
	return p
}

// beats waits until the target has counted on by n.
func beats(t *testing.T, p *testkit.Proc, n int) {
	t.Helper()
	count := func() int {
		text, _ := os.ReadFile(filepath.Join(p.Dir, "heart"))
		n, _ := strconv.Atoi(strings.TrimSpace(string(text)))
		return n
	}
	end := count() + n
	testkit.Await(t, p.Dir, p.PID, "the heart to beat", func() bool { return count() >= end })
}

func dumpOf(p *testkit.Proc, leave bool) *options.Dump {
	o := options.NewDump()
	o.Tree, o.LeaveRunning, o.ShellJob, o.TCPEstablished = p.PID, leave, true, true
	return o
}

// runsOn is a log handler that notes when the tree was let go.
type runsOn struct {
	slog.Handler
	at *time.Time
}

func (h runsOn) Enabled(context.Context, slog.Level) bool { return true }

func (h runsOn) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "the tree runs on" {
		*h.at = r.Time
	}
	return nil
}

// A dump that is cancelled, at any moment, lets the target go on, and leaves
// nothing behind. How long it took to let go is told, not asserted: the machine
// may have other things to do.
func TestCancelledAnywhere(t *testing.T) {
	testkit.RequireRoot(t)
	const moments = 12
	why := errors.New("cancelled by the test")
	var at time.Time
	p, log := crowd(t), slog.New(runsOn{slog.DiscardHandler, &at})
	for _, leave := range []bool{true, false} {
		whole := time.Now()
		if _, err := Run(context.Background(), dumpOf(p, true), dirOf(t), log, nil); err != nil {
			t.Fatal(err)
		}
		took, worst, cancelled := time.Since(whole), time.Duration(0), 0
		for n := range moments {
			dir := dirOf(t)
			moment := took * time.Duration(n) / moments
			ctx, cancel := context.WithTimeoutCause(context.Background(), moment, why)
			begin := time.Now()
			_, err := Run(ctx, dumpOf(p, leave), dir, log, nil)
			late := at.Sub(begin) - moment
			cancel()
			if err == nil {
				if !leave {
					return // it was killed
				}
				continue // it was done before
			}
			if !errors.Is(err, why) {
				t.Fatalf("cancelled after %v: %v", moment, err)
			}
			worst = max(worst, late)
			cancelled++
			testkit.Unharmed(t, p.PID)
			if left := names(t, dir); len(left) > 0 {
				t.Fatalf("cancelled after %v: left behind: %v", moment, left)
			}
			beats(t, p, 2)
		}
		t.Logf("leave running %v: %d of %d dumps of %v cancelled, the tree was let go at most %v later", leave, cancelled, moments, took, worst)
		if cancelled == 0 {
			t.Error("no dump took long enough to be cancelled")
		}
	}
}

// --timeout ends the freeze, whatever the dump is at; without it only the tree
// has to stop in time.
func TestTimeoutOfTheFreeze(t *testing.T) {
	testkit.RequireRoot(t)
	p, log := crowd(t), slog.New(slog.DiscardHandler)
	o, dir := dumpOf(p, false), dirOf(t)
	o.Timeout, o.TimeoutGiven = time.Microsecond, true
	if _, err := Run(context.Background(), o, dir, log, nil); err == nil || !strings.Contains(err.Error(), "--timeout") || !errors.Is(err, context.DeadlineExceeded) && !strings.Contains(err.Error(), "1µs") {
		t.Fatal(err)
	}
	testkit.Unharmed(t, p.PID)
	if left := names(t, dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	beats(t, p, 2)
}

// slow is a disk that takes its time, and tells when it is asked to sync.
type slow struct {
	*image.Dir
	asked chan<- struct{}
	done  <-chan struct{}
}

func (s slow) Sync() error {
	s.asked <- struct{}{}
	<-s.done
	return fmt.Errorf("nobody waits for this")
}

// A disk that does not answer keeps nobody: the target goes on.
func TestCancelledWhileSyncing(t *testing.T) {
	testkit.RequireRoot(t)
	p, dir := crowd(t), dirOf(t)
	asked, done := make(chan struct{}), make(chan struct{})
	defer close(done)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { <-asked; cancel() }()
	_, err := Run(ctx, dumpOf(p, false), slow{dir, asked, done}, slog.New(slog.DiscardHandler), nil)
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	testkit.Unharmed(t, p.PID)
	if left := names(t, dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	beats(t, p, 2)
}

// Time for letting the tree go is taken from what --timeout gives, be the tree still
// about to be stopped, stopped, or about to be ended.
func TestTimeToLetGo(t *testing.T) {
	o := options.NewDump()
	o.Timeout, o.TimeoutGiven = time.Minute, true
	d := newDump(o, dirOf(t), slog.New(slog.DiscardHandler))
	defer d.close()
	d.start = time.Now()
	ctx := d.deadline(t.Context())
	d.freezer.ctx, d.freezer.end = ctx, d.start.Add(o.Timeout)
	for _, tt := range []struct {
		toLetGo time.Duration
		over    bool
	}{{0, false}, {time.Second, false}, {2 * time.Minute, true}} {
		d.freezer.toLetGo = tt.toLetGo
		d.ctx = d.sooner(ctx)
		for at, err := range map[string]error{"freezing": d.freezer.over(), "frozen": d.ended(), "ending": d.soon(0)} {
			if (err != nil) != tt.over || err != nil && !strings.Contains(err.Error(), "--timeout") {
				t.Errorf("%v are needed to let go: %s: %v", tt.toLetGo, at, err)
			}
		}
	}
	d.freezer.toLetGo = 0
	if d.soon(time.Second) != nil || d.soon(2*time.Minute) == nil {
		t.Error("what takes something back is not looked at")
	}
}

// A thread that executes a program for long, which lets nobody seize one of its process,
// keeps no dump: not one that is cancelled, nor one whose time is over.
func TestCancelledWhileItExecutes(t *testing.T) {
	testkit.RequireRoot(t)
	program, let := testkit.Leased(t)
	p := exec.Command(testkit.BuildC(t, "../tracee/testdata/exec.c"), program)
	in, err1 := p.StdinPipe()
	out, err2 := p.StdoutPipe()
	if err := errors.Join(err1, err2, p.Start()); err != nil {
		t.Fatal(err)
	}
	defer p.Wait() //nolint:errcheck // it is killed
	stuck := time.AfterFunc(testkit.Patience, func() { p.Process.Kill() })
	defer p.Process.Kill() //nolint:errcheck // it is there
	var b [1]byte
	if _, err := io.ReadFull(out, b[:]); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write(b[:]); err != nil {
		t.Fatal(err)
	}
	pid := p.Process.Pid
	testkit.Poll(t, "the program is about to be executed", func() bool {
		return slices.Contains(wchans(pid), testkit.WaitsToExecute)
	})
	o := options.NewDump()
	o.Tree, o.LeaveRunning = pid, true
	dumped := func(ctx context.Context) error {
		dir := dirOf(t)
		_, err := Run(ctx, o, dir, slog.New(slog.DiscardHandler), nil)
		if left := names(t, dir); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
		testkit.Unharmed(t, pid)
		return err
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	why := errors.New("cancelled by the test")
	go func() {
		testkit.Poll(t, "the tracer waits", func() bool { return slices.Contains(wchans(os.Getpid()), "ptrace_attach") })
		cancel(why)
	}()
	if err := dumped(ctx); !errors.Is(err, why) || !strings.Contains(err.Error(), "execve(2)") {
		t.Errorf("%v, want what it waited for", err)
	}
	o.Timeout, o.TimeoutGiven = 50*time.Millisecond, true
	if err := dumped(context.Background()); err == nil || !strings.Contains(err.Error(), "--timeout") {
		t.Error(err)
	}
	if !stuck.Stop() {
		t.Fatal("it waits for ever")
	}
	let()
	testkit.Poll(t, "the program is executed", func() bool {
		comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		return err == nil && string(comm) == "script\n"
	})
}

// wchans returns where in the kernel the threads of a process sleep.
func wchans(pid int) (out []string) {
	all, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/wchan", pid))
	for _, path := range all {
		at, _ := os.ReadFile(path) // it may be gone
		out = append(out, string(at))
	}
	return out
}
