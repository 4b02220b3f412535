package testkit

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// EngineEnv names the binary to test instead of the one built from this tree.
const EngineEnv = "GLIS_ENGINE"

// Engine is a checkpoint and restore program with criu's command line.
type Engine struct {
	Path string
	Glis bool     // whether it is Glis, by its --version
	Dump []string // options every dump gets
	// Extra are its descriptors from 3 on.
	Extra []*os.File
	// Started is told of each run when it begins; may be nil.
	Started func(pid int)
}

// Result is how one run of an engine ended.
type Result struct {
	Code   int // exit status, -1 when killed
	Stdout string
	Stderr string
}

// FindEngine returns the engine under test: $GLIS_ENGINE, or ./cmd/glis built
// from this tree.
func FindEngine(t testing.TB) Engine {
	t.Helper()
	path := os.Getenv(EngineEnv)
	if path == "" {
		path = BuildGlis(t, "../cmd/glis")
	}
	return NewEngine(t, path)
}

// NewEngine looks at the version of the engine at path.
func NewEngine(t testing.TB, path string) Engine {
	t.Helper()
	e := Engine{Path: path}
	r := e.Run(t, "--version")
	if r.Code != 0 {
		t.Fatalf("%s --version: exit status %d: %s", path, r.Code, r.Stderr)
	}
	e.Glis = strings.Contains(strings.ToLower(r.Stdout), "glis")
	if !e.Glis {
		// CRIU would run the iptables tools, which a test machine may lack.
		e.Dump = []string{"--network-lock", "skip"}
	}
	return e
}

// Run runs the engine to its end, or kills it when Patience runs out.
func (e Engine) Run(t testing.TB, args ...string) Result {
	t.Helper()
	cmd, out, done := e.command(t, args)
	defer done()
	err := cmd.Start()
	if err != nil {
		t.Fatalf("%s: %v", e.Path, err)
	}
	if e.Started != nil {
		e.Started(cmd.Process.Pid)
	}
	err = cmd.Wait()
	r := out(cmd)
	if err != nil && r.Code <= 0 {
		t.Fatalf("%s %s: %v\n%s", e.Path, strings.Join(args, " "), err, r.Stderr)
	}
	return r
}

// command prepares a run whose output goes to files: a restored task that
// kept the engine's pipe would otherwise keep the test waiting for its end.
func (e Engine) command(t testing.TB, args []string) (cmd *exec.Cmd, out func(*exec.Cmd) Result, done func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	cmd = exec.CommandContext(ctx, e.Path, args...)
	dir := t.TempDir()
	stdout, err := os.Create(filepath.Join(dir, "stdout"))
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := os.Create(filepath.Join(dir, "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = stdout, stderr, e.Extra
	out = func(cmd *exec.Cmd) Result {
		so, _ := os.ReadFile(stdout.Name())
		se, _ := os.ReadFile(stderr.Name())
		return Result{cmd.ProcessState.ExitCode(), string(so), string(se)}
	}
	return cmd, out, func() { cancel(); stdout.Close(); stderr.Close() }
}

// Save dumps the tree and, unless it is to go on (--leave-running or
// --leave-stopped in args), waits until its PIDs are free.
func (e Engine) Save(t testing.TB, pid int, dir string, args ...string) {
	t.Helper()
	tree := Tree(pid)
	all := append([]string{"dump", "-t", strconv.Itoa(pid), "-D", dir, "-o", "dump.log", "-v4"}, e.Dump...)
	all = append(all, args...)
	e.must(t, filepath.Join(dir, "dump.log"), all)
	for _, a := range args {
		if strings.HasPrefix(a, "--leave-") || a == "-R" || a == "-s" {
			return
		}
	}
	if err := reap(tree); err != nil {
		t.Fatalf("after the dump: %v", err)
	}
	// What the tree forked between our look at it and the freeze.
	reapDead(Tree(os.Getpid())[1:])
}

// Restore brings the tree back detached and returns its root's PID.
func (e Engine) Restore(t testing.TB, dir string, args ...string) int {
	t.Helper()
	pidfile := filepath.Join(t.TempDir(), "pid")
	all := append([]string{"restore", "-d", "-D", dir, "-o", "restore.log", "-v4", "--pidfile", pidfile}, args...)
	e.must(t, filepath.Join(dir, "restore.log"), all)
	text, err := os.ReadFile(pidfile)
	if err != nil {
		t.Fatalf("restore wrote no pidfile: %v", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatalf("pidfile: %v", err)
	}
	return pid
}

// StartForeground begins a restore that stays as the parent of the restored
// root; the function it returns waits for its end.
func (e Engine) StartForeground(t testing.TB, dir string, args ...string) (wait func() Result) {
	t.Helper()
	all := append([]string{"restore", "-D", dir, "-o", "restore.log", "-v4"}, args...)
	cmd, out, done := e.command(t, all)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return func() Result {
		defer done()
		_ = cmd.Wait()
		return out(cmd)
	}
}

// must runs the engine and fails the test with the end of its log.
func (e Engine) must(t testing.TB, log string, args []string) {
	t.Helper()
	r := e.Run(t, args...)
	if r.Code == 0 {
		return
	}
	NotShown(t, r.Stderr)
	t.Fatalf("%s: exit status %d\n%s%s\n%s", strings.Join(args, " "), r.Code, r.Stdout, r.Stderr, LogTail(log))
}

// LogTail returns the errors and the last lines of a log.
func LogTail(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Sprintf("no log: %v", err)
	}
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	var out []byte
	for i, l := range lines {
		if i >= len(lines)-8 || bytes.Contains(l, []byte("Error")) {
			out = append(append(out, l...), '\n')
		}
	}
	return string(out)
}
