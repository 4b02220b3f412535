package test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/testkit"
)

const pythonCounter = `
import time
n, f = 0, open("count", "a", buffering=1)
kept = {}
while True:
    kept[n % 1000] = [n] * 10
    assert kept[(n - 1) % 1000][0] == n - 1 if n else True
    f.write("%d\n" % n)
    n += 1
    time.sleep(0.001)
`

const bashCounter = `i=0; while :; do echo $i; i=$((i+1)); sleep .01; done | cat >> count`

const nodeCounter = `
const fs = require("fs"); let n = 0; const kept = new Map();
setInterval(() => {}, 3);
(async () => { for (;;) {
  kept.set(n % 500, Buffer.alloc(1000, n % 251));
  const text = await fs.promises.readFile("count", "utf8").catch(() => "");
  if (text.split("\n").length - 1 != n) { fs.writeFileSync("error", "count has other lines"); process.exit(1); }
  fs.appendFileSync("count", n++ + "\n");
  await new Promise((done) => setTimeout(done, 5));
}})();
`

// counter is a program that appends 0, 1, 2… to the file "count", one number
// per line, and knows nothing of being saved.
type counter struct {
	name string
	argv func(t testing.TB) []string
}

var counters = []counter{
	{"threads", func(t testing.TB) []string { return []string{testkit.BuildC(t, "targets/ticker.c"), "."} }},
	{"go", func(t testing.TB) []string { return []string{testkit.BuildGo(t, "./targets/goroutines")} }},
	{"python3", func(t testing.TB) []string { return []string{python(t), "-c", pythonCounter} }},
	{"bash", func(t testing.TB) []string {
		return []string{testkit.RequireProgram(t, "bash", "bash"), "-c", bashCounter}
	}},
	{"node", func(t testing.TB) []string {
		return []string{testkit.RequireProgram(t, "node", "nodejs"), "-e", nodeCounter}
	}},
}

// python returns the interpreter itself: what PATH has may be a wrapper.
func python(t testing.TB) string {
	t.Helper()
	path := testkit.RequireProgram(t, "python3", "python3")
	out, err := exec.Command(path, "-c", "import sys; print(sys.executable)").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// counted returns how far the counter is and fails on a gap or a repetition.
func counted(t testing.TB, dir string) int {
	t.Helper()
	text, _ := os.ReadFile(filepath.Join(dir, "count"))
	text = text[:bytes.LastIndexByte(text, '\n')+1] // a line may be half written
	n := 0
	for line := range bytes.Lines(text) {
		if string(line) != strconv.Itoa(n)+"\n" {
			t.Fatalf("line %d of count is %q", n, line)
		}
		n++
	}
	return n
}

// awaitCount blocks until the counter has gone on by more lines.
func awaitCount(t testing.TB, p *testkit.Proc, more int) {
	t.Helper()
	from := counted(t, p.Dir)
	testkit.Await(t, p.Dir, p.PID, "the counter to go on", func() bool {
		text, _ := os.ReadFile(filepath.Join(p.Dir, "count"))
		return bytes.Count(text, []byte("\n")) >= from+more
	})
	counted(t, p.Dir)
}

// generations saves and restores, or only saves, so many times.
func (c counter) generations(t *testing.T, e testkit.Engine, n int, running bool) {
	testkit.NoLeaks(t)
	p := testkit.Start(t, testkit.NewDir(t), c.argv(t)...)
	awaitCount(t, p, 3)
	for range n {
		img := testkit.NewDir(t)
		if running {
			e.Save(t, p.PID, img, "--leave-running")
		} else {
			e.Save(t, p.PID, img)
			e.Restore(t, img)
		}
		testkit.Unharmed(t, p.PID)
		awaitCount(t, p, 3)
		os.RemoveAll(img)
	}
}

func TestReal(t *testing.T) {
	testkit.RequireRoot(t)
	e := testkit.FindEngine(t)
	for _, c := range counters {
		t.Run(c.name, func(t *testing.T) {
			t.Run("restored", func(t *testing.T) { c.generations(t, e, 4, false) })
			t.Run("running", func(t *testing.T) { c.generations(t, e, 4, true) })
		})
	}
}

// A sleep that is saved half way sleeps for the rest of its time, not anew.
func TestSleepGoesOn(t *testing.T) {
	testkit.RequireRoot(t)
	testkit.NoLeaks(t)
	e := testkit.FindEngine(t)
	start := time.Now()
	p := testkit.Start(t, testkit.NewDir(t), testkit.RequireProgram(t, "sleep", "coreutils"), "8")
	time.Sleep(4 * time.Second) // the time has to pass: there is nothing to await
	img := testkit.NewDir(t)
	e.Save(t, p.PID, img)
	e.Restore(t, img)
	back := time.Now()
	p.WaitExit(t, 0)
	// At most 4 seconds are left, however long it was away; anew it would be 8.
	if d, rest := time.Since(start), time.Since(back); d < 8*time.Second || rest >= 7*time.Second {
		t.Errorf("sleep 8, saved after 4, ended after %v, %v after it was back", d, rest)
	}
}

// A restore that stays in the foreground ends as the restored root does.
func TestForegroundExit(t *testing.T) {
	testkit.RequireRoot(t)
	e := testkit.FindEngine(t)
	for _, code := range []int{0, 42, 255} {
		t.Run(strconv.Itoa(code), func(t *testing.T) {
			if !e.Glis && code != 0 {
				t.Skip("CRIU ends with 0 whatever the task did")
			}
			testkit.NoLeaks(t)
			p := testkit.Start(t, testkit.NewDir(t), testkit.BuildC(t, "targets/exitcode.c"), "exit", strconv.Itoa(code), ".")
			p.AwaitAt(t, 0)
			img := testkit.NewDir(t)
			e.Save(t, p.PID, img)
			wait := e.StartForeground(t, img)
			p.Go(t, 0, true)
			if r := wait(); r.Code != code {
				t.Errorf("restore ended with %d, want %d: %s", r.Code, code, r.Stderr)
			}
		})
	}
}

// If a signal ends the root, the restore that waits for it ends as a shell would.
func TestForegroundSignal(t *testing.T) {
	e := glisOnly(t)
	for _, sig := range []unix.Signal{unix.SIGKILL, unix.SIGSEGV, unix.SIGTERM} {
		t.Run(sig.String(), func(t *testing.T) {
			testkit.NoLeaks(t)
			p := testkit.Start(t, testkit.NewDir(t), testkit.BuildC(t, "targets/exitcode.c"), "signal", strconv.Itoa(int(sig)), ".")
			p.AwaitAt(t, 0)
			img := testkit.NewDir(t)
			e.Save(t, p.PID, img)
			wait := e.StartForeground(t, img)
			p.Go(t, 0, true)
			if r := wait(); r.Code != 128+int(sig) {
				t.Errorf("restore ended with %d, want %d: %s", r.Code, 128+int(sig), r.Stderr)
			}
		})
	}
}

// redis keeps its data and listens again.
func TestRedis(t *testing.T) {
	testkit.RequireRoot(t)
	testkit.NoLeaks(t)
	e := testkit.FindEngine(t)
	dir := testkit.NewDir(t)
	sock := filepath.Join(dir, "redis.sock")
	p := testkit.Start(t, dir, testkit.RequireProgram(t, "redis-server", "redis-server"),
		"--port", "0", "--unixsocket", sock, "--save", "", "--dir", dir, "--logfile", "log")
	awaitRedis(t, p)
	for i := 1; i < 500; i++ {
		if got := redis(t, p, fmt.Sprintf("SET key%d %s", i, strings.Repeat(strconv.Itoa(i), i))); got != "+OK" {
			t.Fatalf("SET: %q", got)
		}
	}
	for range 3 {
		img := testkit.NewDir(t)
		e.Save(t, p.PID, img)
		e.Restore(t, img)
		for i := 1; i < 500; i += 7 {
			if got := redis(t, p, fmt.Sprintf("STRLEN key%d", i)); got != fmt.Sprintf(":%d", i*len(strconv.Itoa(i))) {
				t.Fatalf("key%d: %q", i, got)
			}
		}
	}
}

// redis sends one command on a connection of its own, and returns the first
// line of the answer once the server has closed its end, too.
func redis(t testing.TB, p *testkit.Proc, command string) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "redis")
	defer f.Close()
	if err := syscall.Connect(fd, &syscall.SockaddrUnix{Name: filepath.Join(p.Dir, "redis.sock")}); err != nil {
		t.Fatal(err)
	}
	// QUIT makes the server close first: its end is gone when we read EOF.
	if _, err := f.WriteString(command + "\r\nQUIT\r\n"); err != nil {
		t.Fatal(err)
	}
	var answer bytes.Buffer
	if _, err := answer.ReadFrom(f); err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(answer.String(), "\r\n")
	return line
}
