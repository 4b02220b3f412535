package cli

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"glis.dev/glis/internal/event"
	"glis.dev/glis/options"
)

// childEnv makes the test binary the program under test. If it is the number of a
// signal, other than 1, the program sends itself that afterwards.
const childEnv = "GLIS_CLI_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) == "" {
		os.Exit(m.Run())
	}
	app := App{
		Name: "glis", Stdout: os.Stdout, Stderr: os.Stderr, Engine: &blockingEngine{}, Start: time.Now(),
		Getenv: func(string) string { return "" },
		System: System{Privileges: func() (Privileges, error) { return Privileges{true, ^uint64(0)}, nil }, Exec: become},
	}
	status := app.Run(os.Args[1:])
	if sig, err := strconv.Atoi(os.Getenv(childEnv)); err == nil && sig != 1 {
		end(syscall.Signal(sig))
		time.Sleep(time.Minute) // it has ended long before
	}
	os.Exit(status)
}

// end has a signal end the program; a Go program ends by SIGPIPE when it writes to a
// standard output that nobody reads, and else never.
func end(sig syscall.Signal) {
	if sig != syscall.SIGPIPE {
		_ = syscall.Kill(os.Getpid(), sig)
		return
	}
	var p [2]int
	_ = syscall.Pipe(p[:])
	_ = syscall.Close(p[0])
	_ = syscall.Dup3(p[1], 1, 0)
	fmt.Println()
}

// blockingEngine says that it is there and then waits for the end.
type blockingEngine struct{ fakeEngine }

func (*blockingEngine) Dump(ctx context.Context, _ *options.Dump, _ *slog.Logger, _ event.All) (DumpStats, error) {
	fmt.Println("ready")
	<-ctx.Done()
	return DumpStats{}, fmt.Errorf("dumping: %w", ctx.Err())
}

func (*blockingEngine) Restore(_ context.Context, o *options.Restore, _ *slog.Logger, _ event.All) (*Restored, error) {
	if o.Pidfile == lastInstant {
		_ = syscall.Kill(os.Getpid(), syscall.SIGTERM)
	}
	return &Restored{Wait: func() (int, error) {
		fmt.Println("ready")
		select {}
	}}, nil
}

// child starts the program and returns when it is ready.
func child(t *testing.T, args ...string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], append(args, "-D", t.TempDir())...)
	cmd.Env = append(os.Environ(), childEnv+"=1")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("%q, %v, %s", line, err, stderr.String())
	}
	return cmd, &stderr
}

// noticed has children notice signals that this program was started to ignore,
// as by nohup(1): a signal with a handler is one with none after execve(2).
func noticed(t *testing.T, all []syscall.Signal) {
	heard := make(chan os.Signal, 1)
	for _, sig := range all {
		signal.Notify(heard, sig)
	}
	t.Cleanup(func() { signal.Stop(heard) })
}

// TestSignalDuringDump: the engine is told and the exit status is an error's.
func TestSignalDuringDump(t *testing.T) {
	all := []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP}
	noticed(t, all)
	for _, sig := range all {
		cmd, stderr := child(t, "dump", "-t", "1")
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		want := "Error (dump): dumping: context canceled (" + sig.String() + " signal received)\n"
		if code := cmd.ProcessState.ExitCode(); code != 1 || stderr.String() != want {
			t.Errorf("%v: %d, %q, want %q", sig, code, stderr.String(), want)
		}
	}
}

// TestNohup: a signal that was ignored at the start stays ignored.
func TestNohup(t *testing.T) {
	signal.Ignore(syscall.SIGHUP)
	defer signal.Reset(syscall.SIGHUP)
	cmd, stderr := child(t, "dump", "-t", "1")
	for _, sig := range []syscall.Signal{syscall.SIGHUP, syscall.SIGTERM} {
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
	}
	_ = cmd.Wait()
	if !strings.Contains(stderr.String(), "terminated") {
		t.Errorf("%q", stderr.String())
	}
}

// TestSignalWhileWaiting: once the processes run, a signal ends Glis as it
// ends criu.
func TestSignalWhileWaiting(t *testing.T) {
	cmd, _ := child(t, "restore")
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if st, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !st.Signaled() || st.Signal() != syscall.SIGTERM {
		t.Errorf("%v", cmd.ProcessState)
	}
}

// TestSignalsAfterwards: a program that calls Run and goes on ends by signals as before.
func TestSignalsAfterwards(t *testing.T) {
	all := []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGPIPE}
	noticed(t, all)
	for _, sig := range all {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "restore", "-d", "-D", t.TempDir())
		cmd.Env = append(os.Environ(), childEnv+"="+strconv.Itoa(int(sig)))
		out, _ := cmd.CombinedOutput()
		if st, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !st.Signaled() || st.Signal() != sig {
			t.Errorf("%v: %v, %s", sig, cmd.ProcessState, out)
		}
	}
}

// TestReaderGone: a log that nobody reads is no reason to end, from its first line on; criu
// goes on, too.
func TestReaderGone(t *testing.T) {
	noticed(t, []syscall.Signal{syscall.SIGPIPE})
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer write.Close()
	read.Close()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "restore", "-d", "-v4", "-D", t.TempDir())
	cmd.Env, cmd.Stderr = append(os.Environ(), childEnv+"=1"), write
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
}

// lastInstant, as a PID file, has the engine get a signal when the processes run
// already, and Glis does not wait for them yet.
const lastInstant = "/last-instant"

// TestSignalInTheLastInstant: a signal that comes too late to take anything back
// is not lost.
func TestSignalInTheLastInstant(t *testing.T) {
	for range 20 {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "restore", "-D", t.TempDir(), "--pidfile", lastInstant)
		cmd.Env = append(os.Environ(), childEnv+"=1")
		_ = cmd.Run()
		if st, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !st.Signaled() || st.Signal() != syscall.SIGTERM {
			t.Fatalf("%v", cmd.ProcessState)
		}
	}
}

// TestExecCmd: the program takes Glis's place, with its exit status, in the
// working directory.
func TestExecCmd(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "restore", "-D", dir, "--exec-cmd", "--", "sh", "-c", "pwd; exit 7")
	cmd.Env = append(os.Environ(), childEnv+"=1")
	out, _ := cmd.Output()
	if code := cmd.ProcessState.ExitCode(); code != 7 || string(out) != dir+"\n" {
		t.Errorf("%d, %q", code, out)
	}
}
