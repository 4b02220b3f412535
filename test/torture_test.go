package test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/testkit"
)

// tortureEnv is from which to which system call of a dump or restore each is
// let fail, or one of so many ("1-4000", "1-4000/50"), with each error or those that
// are named ("1-4000/50:EIO,EINTR"); without it, some are, by chance.
const tortureEnv = "GLIS_TORTURE"

// tortureErrors are how they fail.
var tortureErrors = []unix.Errno{unix.EIO, unix.ENOSPC, unix.ENOMEM, unix.EINTR, unix.EAGAIN, unix.EPERM}

// The system calls of the engine go through package syscall, in the end also
// those of os and of x/sys/unix. An engine is built with one of which one call
// can be let fail; there is no such thing in any other.
func faultyEngine(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	pkg := filepath.Join(strings.TrimSpace(string(out)), "src/syscall")
	text, err := os.ReadFile(filepath.Join(pkg, "syscall_linux.go"))
	if err != nil {
		t.Fatal(err)
	}
	const call = "\tvar errno uintptr\n\tr1, r2, errno = linux.Syscall6(trap, a1, a2, a3, a4, a5, a6)\n"
	if bytes.Count(text, []byte(call)) != 1 {
		t.Fatalf("%s/syscall_linux.go is not as this test knows it: see RawSyscall6 there", pkg)
	}
	// What is closed is closed, whatever close(2) returns.
	text = bytes.Replace(text, []byte(call), []byte(`	if e := fault(trap, a1); e != 0 {
		if trap == SYS_CLOSE {
			linux.Syscall6(trap, a1, a2, a3, a4, a5, a6)
		}
		return ^uintptr(0), 0, e
	}
`+call), 1)
	text = append(text, `
//go:nosplit
//go:norace
func faultWrite(b *[10]byte) {
	linux.Syscall6(SYS_WRITE, 2, uintptr(unsafe.Pointer(b)), uintptr(len(b)), 0, 0, 0)
}

//go:nosplit
//go:norace
func faultStop() {
	pid, _, _ := linux.Syscall6(SYS_GETPID, 0, 0, 0, 0, 0, 0)
	linux.Syscall6(SYS_KILL, pid, uintptr(SIGSTOP), 0, 0, 0, 0)
}
`...)
	dir := t.TempDir()
	changed := filepath.Join(dir, "syscall_linux.go")
	fault, err := filepath.Abs("faults/fault.go.txt")
	if err != nil {
		t.Fatal(err)
	}
	overlay, _ := json.Marshal(map[string]any{"Replace": map[string]string{
		filepath.Join(pkg, "syscall_linux.go"): changed,
		filepath.Join(pkg, "zz_fault.go"):      fault,
	}})
	for name, b := range map[string][]byte{changed: text, filepath.Join(dir, "overlay.json"): overlay} {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	engine := filepath.Join(dir, "glis")
	cmd := exec.Command("go", "build", testkit.LinkFlags, "-overlay", filepath.Join(dir, "overlay.json"), "-o", engine, "../cmd/glis")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if msg, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build an engine that fails or stops on demand: %v\n%s", err, msg)
	}
	return engine
}

// torture is a tree that survives what happens to it.
type torture struct {
	engine testkit.Engine
	faulty string
	proc   *testkit.Proc
	saved  string // a checkpoint of it that is to be restored; "": it runs
	held   int    // tables that hold its packets back until then
}

// fault is the failure of one call.
type fault struct {
	call int
	err  unix.Errno
}

func (f fault) String() string { return fmt.Sprintf("call %d: %v", f.call, f.err) }

// outcome is how a run with a fault ended.
type outcome struct {
	hit  bool // there was such a call
	what string
	code int
	said string
}

// elsewise are failures that have a meaning of their own, by the system call's number,
// and what is said of them instead.
var elsewise = map[fault]string{
	{unix.SYS_FLOCK, unix.EAGAIN}:     "another dump is writing into it",
	{unix.SYS_SETSOCKOPT, unix.EPERM}: "CAP_NET_ADMIN",
}

// toldBy tells whether what was said names the failure.
func (f fault) toldBy(o outcome) bool {
	number, _ := strconv.Atoi(o.what)
	other := elsewise[fault{number, f.err}]
	return strings.Contains(o.said, f.err.Error()) || other != "" && strings.Contains(o.said, other)
}

// run runs the engine that fails. Should it hang, its goroutines are shown.
func (x *torture) run(t *testing.T, f fault, args ...string) outcome {
	t.Helper()
	cmd := exec.Command(x.faulty, args...)
	cmd.Env = append(os.Environ(), fmt.Sprintf("GLIS_FAULT=%d %d", f.call, int(f.err)), "GOTRACEBACK=all")
	said, err := os.Create(filepath.Join(t.TempDir(), "said"))
	if err != nil {
		t.Fatal(err)
	}
	defer said.Close()
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	hangs := time.AfterFunc(testkit.Patience/2, func() { _ = cmd.Process.Signal(unix.SIGQUIT) })
	killed := time.AfterFunc(testkit.Patience, func() { _ = cmd.Process.Kill() })
	_ = cmd.Wait()
	hung := !hangs.Stop()
	killed.Stop()
	text, _ := os.ReadFile(said.Name())
	o := outcome{code: cmd.ProcessState.ExitCode(), said: string(text)}
	if _, after, ok := strings.Cut(o.said, "FAULT "); ok {
		o.hit, o.what = true, after[:3]
	}
	if hung && o.what == "000" && strings.Contains(o.said, "syscall.forkExec(") {
		// Go's own: when read(2) fails on its pipe to a child, which only we make
		// happen, it takes the child for dead, and waits for it.
		t.Logf("%v: starting a process waits for it", f)
		return o
	}
	if hung || strings.Contains(o.said, "panic:") || strings.Contains(o.said, "goroutine ") {
		t.Errorf("%v (system call %s): it hung, or panicked:\n%s", f, o.what, o.said)
	} else if o.code != 0 && !f.toldBy(o) {
		t.Errorf("%v (system call %s): exit status %d, and why is not said:\n%s", f, o.what, o.code, o.said)
	}
	return o
}

// goesOn tells what is wrong with the tree.
func (x *torture) goesOn(t *testing.T) error {
	testkit.Unharmed(t, x.proc.PID)
	if err := mapping(x.proc.PID); err != nil {
		return err
	}
	if n := tables(t); n > 0 {
		return fmt.Errorf("%d tables hold packets back", n)
	}
	from := x.last(t)
	for end := time.Now().Add(testkit.Patience / 2); x.last(t) < from+2; time.Sleep(time.Millisecond) {
		if said, _ := os.ReadFile(filepath.Join(x.proc.Dir, "error")); len(said) > 0 {
			return fmt.Errorf("the target says: %s", said)
		}
		if time.Now().After(end) {
			return errors.New("it does not go on")
		}
	}
	return nil
}

// last is the number that the tree has written last. Only the end of what it
// has written is looked at, which becomes long; see counted.
func (x *torture) last(t *testing.T) int {
	t.Helper()
	f, err := os.Open(filepath.Join(x.proc.Dir, "count"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, min(st.Size(), 1000))
	if _, err := f.ReadAt(b, st.Size()-int64(len(b))); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(b[:bytes.LastIndexByte(b, '\n')]), "\n")
	last := 0
	for i, l := range lines[1:] { // the first may be cut
		n, err := strconv.Atoi(l)
		if err != nil || i > 0 && n != last+1 {
			t.Fatalf("%q comes after %d in count", l, last)
		}
		last = n
	}
	return last
}

// start starts the tree, anew if something happened to it.
func (x *torture) start(t *testing.T) {
	t.Helper()
	x.proc = testkit.Start(t, testkit.NewDir(t), testkit.BuildC(t, "targets/traffic.c"), ".")
	awaitCount(t, x.proc, 3)
}

// dump lets one call of a dump fail: it either has not happened, or is complete.
func (x *torture) dump(t *testing.T, f fault, running bool) bool {
	img := testkit.NewDir(t)
	defer os.RemoveAll(img)
	args := []string{"dump", "-t", strconv.Itoa(x.proc.PID), "-D", img, "--tcp-established"}
	if running {
		args = append(args, "--leave-running")
	}
	tree := testkit.Tree(x.proc.PID)
	o := x.run(t, f, args...)
	_, err := os.Stat(filepath.Join(img, "inventory.img"))
	complete := err == nil
	switch left := images(t, img); {
	case o.code == 0 && !complete:
		t.Errorf("%v (system call %s): a dump without its inventory:\n%s", f, o.what, o.said)
	case o.code != 0 && len(left) > 0 && (running || !complete):
		t.Errorf("%v (system call %s): %d images of a dump that failed:\n%s", f, o.what, len(left), o.said)
	}
	if complete && !running {
		testkit.Reap(t, tree)
		x.engine.Restore(t, img, "--tcp-established")
	}
	x.judge(t, f, o)
	return o.hit
}

// restore lets one call of a restore fail: it leaves nothing, or the whole tree.
// The checkpoint serves as long as restores fail.
func (x *torture) restore(t *testing.T, f fault) bool {
	if x.saved == "" {
		x.saved = testkit.NewDir(t)
		x.engine.Save(t, x.proc.PID, x.saved, "--tcp-established", "--timeout", "600") // see cycle
		x.held = tables(t)
	}
	o := x.run(t, f, "restore", "-d", "-D", x.saved, "--tcp-established")
	there := x.there(o.code == 0)
	if there != (o.code == 0) {
		t.Errorf("%v (system call %s): exit status %d, and the tree is there: %v\n%s", f, o.what, o.code, there, o.said)
	}
	if there {
		x.running(t)
		x.judge(t, f, o)
		return o.hit
	}
	bury(t, x.proc.PID)
	if n := tables(t); n != x.held {
		t.Errorf("%v (system call %s): %d tables hold packets back, there were %d\n%s", f, o.what, n, x.held, o.said)
	}
	if f.call%10 == 0 && f.err == tortureErrors[0] {
		x.back(t, f, o)
	}
	return o.hit
}

// back restores the tree from the checkpoint that was left by restores that failed.
func (x *torture) back(t *testing.T, f fault, o outcome) {
	t.Helper()
	if x.saved == "" {
		return
	}
	x.engine.Restore(t, x.saved, "--tcp-established")
	x.running(t)
	x.judge(t, f, o)
}

func (x *torture) running(t *testing.T) {
	t.Helper()
	if err := os.RemoveAll(x.saved); err != nil {
		t.Fatal(err)
	}
	x.saved = ""
}

// there tells whether the tree is there. What has to end may need a moment to.
func (x *torture) there(want bool) bool {
	for end := time.Now().Add(testkit.Patience / 6); ; time.Sleep(time.Millisecond) {
		there := !zombie(x.proc.PID) && unix.Kill(x.proc.PID, 0) == nil
		if there == want || time.Now().After(end) {
			return there
		}
	}
}

// bury waits for the end of what a failed restore has left behind.
func bury(t *testing.T, pid int) {
	t.Helper()
	for end := time.Now().Add(testkit.Patience); ; time.Sleep(time.Millisecond) {
		left := testkit.Tree(os.Getpid())[1:]
		for _, p := range left {
			_, _ = unix.Wait4(p, nil, unix.WNOHANG, nil)
		}
		if len(left) == 0 && errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("processes %v of a failed restore don't end", left)
		}
	}
}

// judge looks at the tree after a failure, and begins with a new one if it was
// harmed.
func (x *torture) judge(t *testing.T, f fault, o outcome) {
	t.Helper()
	if err := x.goesOn(t); err != nil {
		t.Errorf("%v (system call %s), exit status %d: %v\n%s", f, o.what, o.code, err, o.said)
		x.proc.Kill()
		x.start(t)
	}
}

// each lets the calls that were asked for fail, one at a time, until there are
// no more.
func (j job) each(t *testing.T, try func(fault) bool) {
	from, to, step := 0, 0, 1
	calls, names, _ := strings.Cut(os.Getenv(tortureEnv), ":")
	if calls == "" {
		some(t, try)
		return
	}
	if n, err := fmt.Sscanf(calls, "%d-%d/%d", &from, &to, &step); n < 2 || step < 1 {
		t.Fatalf("%s=FROM-TO or FROM-TO/STEP, and :ERROR,ERROR...: %v", tortureEnv, err)
	}
	tried := 0
	for call := from + j.number*step; call <= to; call += step * j.of {
		hit := false
		for _, err := range named(names) {
			hit = try(fault{call, err}) || hit
		}
		if !hit {
			break
		}
		if tried++; tried%20 == 0 {
			t.Logf("up to call %d", call)
		}
	}
	t.Logf("%d system calls of %d have failed", tried, tried*step*j.of)
}

// named are the errors that a list names; all, if it is empty.
func named(list string) (out []unix.Errno) {
	for _, e := range tortureErrors {
		if list == "" || slices.Contains(strings.Split(list, ","), unix.ErrnoName(e)) {
			out = append(out, e)
		}
	}
	return out
}

// some lets calls fail by chance.
func some(t *testing.T, try func(fault) bool) {
	const tries = 25
	to := 4500 // about how many there are
	for range tries {
		f := fault{1 + rand.N(to), tortureErrors[rand.N(len(tortureErrors))]}
		if !try(f) {
			to = f.call
		}
	}
}

// Whatever system call fails, nothing is harmed, and what is said is true.
func TestTorture(t *testing.T) {
	j := jobOf(t)
	x := &torture{engine: glisOnly(t), faulty: j.faulty}
	if x.faulty == "" {
		x.faulty = faultyEngine(t)
		if os.Getenv(tortureEnv) != "" && runtime.NumCPU() > 1 {
			share(t, x.engine.Path, x.faulty)
			return
		}
	}
	t.Run("dump", func(t *testing.T) {
		x.start(t)
		j.each(t, func(f fault) bool { return x.dump(t, f, false) })
	})
	t.Run("running", func(t *testing.T) {
		x.start(t)
		j.each(t, func(f fault) bool { return x.dump(t, f, true) })
	})
	t.Run("restore", func(t *testing.T) {
		x.start(t)
		j.each(t, func(f fault) bool { return x.restore(t, f) })
		x.back(t, fault{}, outcome{})
	})
}
