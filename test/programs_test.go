package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"glis.dev/glis/internal/testkit"
)

// A pool of processes takes its work from a queue with semaphores in shared
// memory that has no name any more.
const pythonPool = `
import multiprocessing as mp
def work(n): return n * n
if __name__ == "__main__":
    lock, total = mp.Lock(), mp.Value("i", 0)
    with mp.get_context("fork").Pool(3) as pool, open("count", "a", buffering=1) as f:
        n = 0
        while True:
            assert pool.map(work, range(n, n + 20)) == [i * i for i in range(n, n + 20)]
            with lock: total.value += 1
            assert total.value == n + 1
            f.write("%d\n" % n)
            n += 1
`

// A transaction holds its locks and a journal.
const pythonSQL = `
import sqlite3, time
db = sqlite3.connect("db", isolation_level=None)
db.execute("create table t(n)")
db.execute("begin exclusive")
n, f = 0, open("count", "a", buffering=1)
while True:
    db.execute("insert into t values(?)", (n,))
    assert db.execute("select count(*), max(n) from t").fetchone() == (n + 1, n)
    f.write("%d\n" % n)
    n += 1
    time.sleep(0.002)
`

// A virtual machine with its own threads, compilers and collectors of garbage.
const javaCounter = `
import java.nio.file.*;
import java.util.*;
public class Counter {
  public static void main(String[] args) throws Exception {
    var kept = new HashMap<Integer, int[]>();
    for (int n = 0; ; n++) {
      kept.put(n % 1000, new int[]{n, n + 1});
      if (n > 0 && kept.get((n - 1) % 1000)[1] != n) throw new IllegalStateException("lost " + n);
      Files.writeString(Path.of("count"), n + "\n", StandardOpenOption.CREATE, StandardOpenOption.APPEND);
      Thread.sleep(1);
    }
  }
}
`

// programs are counters that need more than the others.
var programs = []struct {
	counter
	dump []string
}{
	{counter: counter{"timeout", func(t testing.TB) []string {
		return []string{testkit.RequireProgram(t, "timeout", "coreutils"), "600", testkit.RequireProgram(t, "bash", "bash"), "-c", bashCounter}
	}}},
	{dump: []string{"--file-locks"}, counter: counter{"flock", func(t testing.TB) []string {
		return []string{testkit.RequireProgram(t, "flock", "util-linux"), "lock", testkit.RequireProgram(t, "bash", "bash"), "-c", bashCounter}
	}}},
	{counter: counter{"multiprocessing", func(t testing.TB) []string { return []string{python(t), "-c", pythonPool} }}},
	{dump: []string{"--file-locks"}, counter: counter{"sqlite", func(t testing.TB) []string { return []string{python(t), "-c", pythonSQL} }}},
	{counter: counter{"java", func(t testing.TB) []string {
		source := filepath.Join(testkit.NewDir(t), "Counter.java")
		mustDo(t, os.WriteFile(source, []byte(javaCounter), 0o644))
		return []string{testkit.RequireProgram(t, "java", "default-jdk-headless"), "-Xmx64m", "-XX:+UseSerialGC", source}
	}}},
}

func TestPrograms(t *testing.T) {
	testkit.RequireRoot(t)
	e := testkit.FindEngine(t)
	for _, c := range programs {
		t.Run(c.name, func(t *testing.T) {
			testkit.NoLeaks(t)
			p := testkit.Start(t, testkit.NewDir(t), c.argv(t)...)
			awaitCount(t, p, 3)
			for range generations() {
				img := testkit.NewDir(t)
				e.Save(t, p.PID, img, c.dump...)
				e.Restore(t, img, c.dump...)
				testkit.Unharmed(t, p.PID)
				awaitCount(t, p, 3)
			}
			if c.name == "flock" && exec.Command(c.argv(t)[0], "-n", filepath.Join(p.Dir, "lock"), "true").Run() == nil {
				t.Error("the lock was given up")
			}
		})
	}
}

// tail waits for a file to grow by inotify.
func TestTail(t *testing.T) {
	testkit.RequireRoot(t)
	testkit.NoLeaks(t)
	e := testkit.FindEngine(t)
	dir := testkit.NewDir(t)
	in, out := filepath.Join(dir, "in"), filepath.Join(dir, "out")
	add := func(line string) {
		f, err := os.OpenFile(in, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteString(line + "\n"); err != nil {
			t.Fatal(err)
		}
	}
	add("first")
	p := testkit.Start(t, dir, testkit.RequireProgram(t, "bash", "bash"), "-c", "exec tail -f -n +1 in > out")
	seen := func(want string) {
		testkit.Await(t, dir, p.PID, want, func() bool { b, _ := os.ReadFile(out); return string(b) == want })
	}
	seen("first\n")
	for range generations() {
		img := testkit.NewDir(t)
		e.Save(t, p.PID, img)
		e.Restore(t, img)
	}
	add("second")
	seen("first\nsecond\n")
}

// tmux comes back with its socket, its terminals, the shells in them and their
// jobs: vim in one that was stopped and is brought to the foreground again.
func TestTmux(t *testing.T) {
	testkit.RequireRoot(t)
	testkit.NoLeaks(t)
	e := testkit.FindEngine(t)
	dir := testkit.NewDir(t)
	path := testkit.RequireProgram(t, "tmux", "tmux")
	bash, vim := testkit.RequireProgram(t, "bash", "bash"), testkit.RequireProgram(t, "vim", "vim")
	tmux := func(args ...string) string { t.Helper(); return askTmux(t, path, dir, args) }
	keys := func(k ...string) { tmux(append([]string{"send-keys"}, k...)...) }
	p := testkit.Start(t, dir, path, "-S", filepath.Join(dir, "socket"), "-f", "/dev/null", "-D")
	testkit.AwaitFile(t, filepath.Join(dir, "socket"), p.PID)
	tmux("new-session", "-d", "-x", "100", "-y", "30", bash+" --norc --noprofile")
	shows := func(want string) { // there is no event for what a screen shows
		t.Helper()
		screen := ""
		for end := time.Now().Add(testkit.Patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			if screen = tmux("capture-pane", "-p"); strings.Contains(screen, want) {
				return
			}
		}
		t.Fatalf("%q is not on the screen:\n%s", want, screen)
	}
	keys("PS1='$((6*7)): '; sleep 1000 | cat &", "Enter")
	shows("42:")
	keys(vim+" -u NONE -N text", "Enter")
	shows("~")
	keys("ihello", "C-z") // a control character in vim's text, taken literally or not, comes back the same
	keys("Escape", "C-z")
	shows("Stopped")
	for n := range generations() {
		img := testkit.NewDir(t)
		e.Save(t, p.PID, img)
		e.Restore(t, img)
		keys(fmt.Sprintf("echo again $((%d+100))", n), "Enter")
		shows(fmt.Sprintf("again %d", n+100))
	}
	keys("jobs", "Enter")
	shows("Running")
	keys("fg %2", "Enter")
	shows("~")
	img := testkit.NewDir(t)
	e.Save(t, p.PID, img)
	e.Restore(t, img)
	keys("Escape", "otyped", "Escape", ":wq", "Enter")
	testkit.Await(t, dir, p.PID, "what was typed before and after", func() bool {
		b, _ := os.ReadFile(filepath.Join(dir, "text"))
		return strings.HasPrefix(string(b), "hello") && strings.HasSuffix(string(b), "\ntyped\n")
	})
	keys("kill %1; wait; echo ended $((40+2))", "Enter") // wait returns when the job has ended
	shows("ended 42")
	tmux("kill-server")
	p.WaitExit(t, 0)
}

// askTmux gives a command to the tmux whose socket is in dir.
func askTmux(t *testing.T, path, dir string, args []string) string {
	t.Helper()
	c := exec.Command(path, append([]string{"-S", filepath.Join(dir, "socket"), "-f", "/dev/null"}, args...)...)
	c.Dir, c.Env = dir, []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TERM=screen", "LANG=C.UTF-8"}
	b, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("tmux %v: %v: %s", args, err, b)
	}
	return string(b)
}
