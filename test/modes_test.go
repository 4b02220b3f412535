package test

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/testkit"
)

// A dump with --leave-stopped leaves the tree stopped, and SIGCONT is all it
// takes to go on.
func TestLeaveStopped(t *testing.T) {
	testkit.RequireRoot(t)
	testkit.NoLeaks(t)
	e := testkit.FindEngine(t)
	p := testkit.Start(t, testkit.NewDir(t), testkit.BuildC(t, "targets/exitcode.c"), "exit", "3", ".")
	p.AwaitAt(t, 0)
	e.Save(t, p.PID, testkit.NewDir(t), "--leave-stopped")
	pid := strconv.Itoa(p.PID)
	if got := strings.Join(testkit.Status(t, pid, "State", "TracerPid"), ", "); got != "State: T (stopped), TracerPid: 0" {
		t.Errorf("after the dump: %s", got)
	}
	if err := unix.Kill(p.PID, unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	p.Go(t, 0, true)
	p.WaitExit(t, 3)
}

// A tree ran on after its dump, and was killed: its peers have heard the end of their
// connections, which can't go on. The restore says so, and leaves nothing; with --tcp-close
// the server goes on without them.
func TestConnectionsOver(t *testing.T) {
	e := glisOnly(t)
	testkit.NoLeaks(t)
	before := tables(t)
	p := testkit.Start(t, testkit.NewDir(t), testkit.BuildC(t, "targets/echo.c"))
	at := net.JoinHostPort("127.0.0.1", p.Told(t, "port"))
	c := dial(t, at, 64)
	awaitMore(t, p.Dir, []*client{c})
	c.stop.Store(true)
	c.done.Wait()
	over, err := net.Dial("tcp4", at)
	if err != nil {
		t.Fatal(err)
	}
	defer over.Close()
	if _, err := io.WriteString(over, "hello"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(over, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	img := testkit.NewDir(t)
	e.Save(t, p.PID, img, "--tcp-established", "--leave-running")
	p.Kill()
	if n, err := over.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Fatalf("the client reads %d bytes, %v", n, err)
	}
	r := e.Run(t, append([]string{"restore", "-D", img, "-d"}, established...)...)
	if r.Code != 1 || !strings.Contains(r.Stderr, "come to its end since it was saved") {
		t.Errorf("restore: exit status %d: %s", r.Code, r.Stderr)
	}
	if n := tables(t); n != before {
		t.Errorf("%d tables after the restore, %d before", n, before)
	}
	e.Restore(t, img, "--tcp-close")
	c = dial(t, at, 64)
	awaitMore(t, p.Dir, []*client{c})
	finish(t, []*client{c})
}

// So they are that are only in messages, which are found late: clients that wait at a
// listener in one.
func TestLeaveStoppedHanded(t *testing.T) {
	e := glisOnly(t)
	kernelMemory(t)
	testkit.NoLeaks(t)
	dir := testkit.NewDir(t)
	p := testkit.Start(t, dir, testkit.BuildC(t, "targets/backlog.c"), "1", "handed", dir)
	p.AwaitAt(t, 0)
	c := backlog(t, dir, 1)
	img := testkit.NewDir(t)
	e.Save(t, p.PID, img, "--tcp-established", "--leave-stopped")
	r := e.Run(t, "dump", "-t", strconv.Itoa(p.PID), "-D", testkit.NewDir(t), "--tcp-established")
	if r.Code != 1 || !strings.Contains(r.Stderr, "run glis unlock") {
		t.Errorf("another dump: exit status %d: %s", r.Code, r.Stderr)
	}
	p.Kill()
	e.Restore(t, img, established...)
	p.Go(t, 0, true)
	if err := c.finish(); err != nil {
		t.Error(err)
	}
	p.WaitExit(t, 0)
}

// The connections of a tree that is left stopped are held back: if it is killed, no peer
// hears of it, and a restore goes on with them, whatever of them the kernel still has. If
// it is continued, "glis unlock" comes before.
func TestLeaveStoppedConnections(t *testing.T) {
	e := glisOnly(t)
	testkit.NoLeaks(t)
	before := tables(t)
	p := testkit.Start(t, testkit.NewDir(t), testkit.BuildC(t, "targets/echo.c"))
	port := p.Told(t, "port")
	var conns []net.Conn
	for range 3 {
		c, err := net.Dial("tcp4", net.JoinHostPort("127.0.0.1", port))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		conns = append(conns, c)
	}
	say := func(text string) {
		t.Helper()
		for _, c := range conns {
			if _, err := io.WriteString(c, text); err != nil {
				t.Fatal(err)
			}
		}
	}
	hear := func(text string) {
		t.Helper()
		for _, c := range conns {
			got := make([]byte, len(text))
			if _, err := io.ReadFull(c, got); err != nil || string(got) != text {
				t.Fatalf("%q came back as %q: %v", text, got, err)
			}
		}
	}
	say("good evening")
	hear("good evening")
	img := testkit.NewDir(t)
	e.Save(t, p.PID, img, "--tcp-established", "--leave-stopped")
	say("are you there?")
	r := e.Run(t, "dump", "-t", strconv.Itoa(p.PID), "-D", testkit.NewDir(t), "--tcp-established")
	if r.Code != 1 || !strings.Contains(r.Stderr, "run glis unlock") {
		t.Errorf("another dump: exit status %d: %s", r.Code, r.Stderr)
	}
	p.Kill()
	say(" still?")
	e.Restore(t, img, established...)
	hear("are you there? still?")
	if n := tables(t); n != before {
		t.Errorf("%d tables after the restore, %d before", n, before)
	}
	img = testkit.NewDir(t)
	e.Save(t, p.PID, img, "--tcp-established", "--leave-stopped")
	say("good night")
	if r := e.Run(t, "unlock", img); r.Code != 0 || tables(t) != before {
		t.Errorf("unlock: exit status %d, %d tables, %d before: %s", r.Code, tables(t), before, r.Stderr)
	}
	if err := unix.Kill(p.PID, unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	hear("good night")
}

// A dump with --leave-stopped for which there is no room leaves the tree as it was.
func TestLeaveStoppedFull(t *testing.T) {
	e := glisOnly(t)
	testkit.NoLeaks(t)
	before := tables(t)
	p := testkit.Start(t, testkit.NewDir(t), testkit.BuildC(t, "targets/echo.c"))
	c, err := net.Dial("tcp4", net.JoinHostPort("127.0.0.1", p.Told(t, "port")))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	dir := mountTmpfs(t, 0, "nr_inodes=6")
	r := e.Run(t, "dump", "-t", strconv.Itoa(p.PID), "-D", dir, "--tcp-established", "--leave-stopped")
	if r.Code != 1 || !strings.Contains(r.Stderr, "space") {
		t.Errorf("exit status %d: %s", r.Code, r.Stderr)
	}
	empty(t, dir)
	if n := tables(t); n != before {
		t.Errorf("%d tables, %d before", n, before)
	}
	got := make([]byte, 4)
	if _, err := io.WriteString(c, "well"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "well" {
		t.Errorf("it says %q: %v", got, err)
	}
}

// A task that ends by a signal after a detached restore ends by that signal.
func TestSignalledLater(t *testing.T) {
	testkit.RequireRoot(t)
	testkit.NoLeaks(t)
	e := testkit.FindEngine(t)
	p := testkit.Start(t, testkit.NewDir(t), testkit.BuildC(t, "targets/exitcode.c"), "signal", "9", ".")
	p.AwaitAt(t, 0)
	img := testkit.NewDir(t)
	e.Save(t, p.PID, img)
	e.Restore(t, img)
	p.Go(t, 0, true)
	if ws := p.Wait(t); !ws.Signaled() || ws.Signal() != unix.SIGKILL {
		t.Errorf("ended with %#x, want killed", uint32(ws))
	}
}

// With -S the restored root is a child of who called the engine, at once.
func TestRestoreSibling(t *testing.T) {
	testkit.RequireRoot(t)
	testkit.NoLeaks(t)
	e := testkit.FindEngine(t)
	p := testkit.Start(t, testkit.NewDir(t), testkit.BuildC(t, "targets/exitcode.c"), "exit", "7", ".")
	p.AwaitAt(t, 0)
	img := testkit.NewDir(t)
	e.Save(t, p.PID, img)
	e.Restore(t, img, "-S")
	want := "PPid: " + strconv.Itoa(os.Getpid())
	if got := testkit.Status(t, strconv.Itoa(p.PID), "PPid"); len(got) != 1 || got[0] != want {
		t.Errorf("%v, want %s", got, want)
	}
	p.Go(t, 0, true)
	p.WaitExit(t, 7)
}

// Ctrl-C during a dump that would kill: the target goes on. When it comes to the
// worst, the images are all written, the tree is still frozen, and a script never ends.
func TestInterruptedDump(t *testing.T) {
	e := glisOnly(t)
	testkit.NoLeaks(t)
	p := testkit.Start(t, testkit.NewDir(t), testkit.BuildC(t, "targets/hold.c"), "8", ".")
	p.AwaitAt(t, 0)
	script := filepath.Join(testkit.NewDir(t), "script")
	text := "#!" + testkit.RequireProgram(t, "sh", "dash") + "\n[ $CRTOOLS_SCRIPT_ACTION = post-dump ] || exit 0\n[ -e $CRTOOLS_IMAGE_DIR/pages-1.img ] && kill -INT $PPID\nexec sleep 1000\n"
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	img := testkit.NewDir(t)
	before := testkit.Look(t, p.PID)
	r := e.Run(t, "dump", "-t", strconv.Itoa(p.PID), "-D", img, "--action-script", script)
	if r.Code == 0 || !strings.Contains(r.Stderr, "interrupt signal received") {
		t.Errorf("exit status %d, %s", r.Code, r.Stderr)
	}
	testkit.Unharmed(t, p.PID)
	if diff := testkit.Diff(before, testkit.Look(t, p.PID)); diff != "" {
		t.Errorf("the interrupted dump changed the target:\n%s", diff)
	}
	empty(t, img)
	p.Go(t, 0, true)
	p.WaitExit(t, 0)
}

// jobScript is what a user does in a shell: start a job, save it, and restore
// it into the same terminal.
const jobScript = `
await() { while [ ! -e "$1" ]; do [ -e error ] && { touch failed; exit 1; }; sleep .01; done; }
exec 3<&0 # a job in the background would get /dev/null as its input
"$TARGET" . <&3 3<&- & p=$!
exec 3<&-
await at.0
"$ENGINE" dump -t $p -D "$IMG" -o dump.log -v4 --shell-job $DUMPOPTS || { echo dump > failed; exit 1; }
wait $p
"$ENGINE" restore -d -D "$IMG" -o restore.log -v4 --shell-job || { echo restore > failed; exit 1; }
touch end go.0
await at.1
touch done
`

// A job of an interactive terminal comes back to that terminal.
func TestShellJob(t *testing.T) {
	testkit.RequireRoot(t)
	testkit.NoLeaks(t)
	e := testkit.FindEngine(t)
	dir, img := testkit.NewDir(t), testkit.NewDir(t)
	master, slave := openPTY(t)
	p := testkit.StartWith(t, dir, jobAttr(slave, "PATH="+os.Getenv("PATH"), "IMG="+img, "ENGINE="+e.Path,
		"TARGET="+testkit.BuildC(t, "targets/tty.c"), "DUMPOPTS="+strings.Join(e.Dump, " ")),
		testkit.RequireProgram(t, "bash", "bash"), "-c", jobScript)
	testkit.Await(t, dir, p.PID, "the script", func() bool {
		return exists(dir, "done") || exists(dir, "failed")
	})
	if exists(dir, "failed") {
		what, _ := os.ReadFile(filepath.Join(dir, "failed"))
		step := strings.TrimSpace(string(what))
		t.Fatalf("%s failed:\n%s", step, testkit.LogTail(filepath.Join(img, step+".log")))
	}
	p.Wait(t)
	first, _ := os.ReadFile(filepath.Join(dir, "obs.0.root"))
	if second, _ := os.ReadFile(filepath.Join(dir, "obs.1.root")); string(second) != string(first) {
		t.Errorf("before:\n%s\nafter:\n%s", first, second)
	}
	slave.Close()
	shown := readPTY(t, master, "written 1")
	if !strings.Contains(shown, "written 0") || !strings.Contains(shown, "written 1") {
		t.Errorf("the terminal showed %q, want both lines", shown)
	}
}

func exists(dir, name string) bool {
	_, err := os.Stat(filepath.Join(dir, name))
	return err == nil
}

// jobAttr makes the terminal the controlling one of a new session.
func jobAttr(tty *os.File, env ...string) *os.ProcAttr {
	return &os.ProcAttr{Env: env, Files: []*os.File{tty, tty, tty}, Sys: &unix.SysProcAttr{Setsid: true, Setctty: true}}
}

// openPTY returns both sides of a new pseudo terminal (pty(7)).
func openPTY(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slave.Close() })
	return master, slave
}

// readPTY reads what was shown until it contains want or nothing comes.
func readPTY(t *testing.T, master *os.File, want string) string {
	t.Helper()
	var shown string
	buf := make([]byte, 4096)
	fds := []unix.PollFd{{Fd: int32(master.Fd()), Events: unix.POLLIN}}
	for !strings.Contains(shown, want) {
		if n, err := testkit.PollFds(fds, int(time.Second.Milliseconds())); n == 0 || err != nil {
			break
		}
		n, err := unix.Read(int(fds[0].Fd), buf)
		if n <= 0 || err != nil {
			break
		}
		shown += string(buf[:n])
	}
	return shown
}

// A thread that can't be stopped, as it waits for a file server that does not answer, ends
// the dump when --timeout says so, by name; the target goes on.
func TestTimeout(t *testing.T) {
	e := glisOnly(t)
	testkit.NoLeaks(t)
	silent, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	testkit.Lacks(t, "FUSE", err, unix.ENOENT, unix.ENODEV, unix.ENXIO)
	defer silent.Close()
	at := t.TempDir()
	if err := unix.Mount("none", at, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", silent.Fd())); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(at, unix.MNT_DETACH) //nolint:errcheck // it is gone at the end
	p := testkit.Start(t, testkit.NewDir(t), testkit.BuildC(t, "targets/stuck.c"), filepath.Join(at, "file"), ".")
	p.AwaitAt(t, 0)
	pid := strconv.Itoa(p.PID)
	poll(t, "it to wait where nothing stops it", func() bool {
		return strings.Join(testkit.Status(t, pid, "State"), "") == "State: D (disk sleep)"
	})
	img := testkit.NewDir(t)
	r := e.Run(t, "dump", "-t", pid, "-D", img, "--timeout", "1")
	if r.Code != 1 || !strings.Contains(r.Stderr, "--timeout") || !strings.Contains(r.Stderr, pid) || !strings.Contains(r.Stderr, "can't be interrupted") {
		t.Errorf("exit status %d, %q", r.Code, r.Stderr)
	}
	testkit.Unharmed(t, p.PID)
	empty(t, img)
	silent.Close()
	p.WaitExit(t, 0)
}

// A parent that waits in vfork(2) for long is named before the time is over; the target
// goes on.
func TestVfork(t *testing.T) {
	e := glisOnly(t)
	testkit.NoLeaks(t)
	p := testkit.Start(t, testkit.NewDir(t), testkit.BuildC(t, "targets/vforking.c"), ".")
	p.AwaitAt(t, 0)
	img := testkit.NewDir(t)
	r := e.Run(t, "dump", "-t", strconv.Itoa(p.PID), "-D", img, "--timeout", "0")
	if r.Code != 1 || !strings.Contains(r.Stderr, "waits in vfork(2) until its child (process ") || !strings.Contains(r.Stderr, "try again") {
		t.Errorf("exit status %d, %q", r.Code, r.Stderr)
	}
	testkit.Unharmed(t, p.PID)
	empty(t, img)
	p.Go(t, 0, true)
	p.WaitExit(t, 0)
}

// With --exec-cmd a program takes the engine's place, whose child the tree is.
func TestExecCmd(t *testing.T) {
	testkit.RequireRoot(t)
	testkit.NoLeaks(t)
	e := testkit.FindEngine(t)
	p := testkit.Start(t, testkit.NewDir(t), testkit.BuildC(t, "targets/exitcode.c"), "exit", "4", ".")
	p.AwaitAt(t, 0)
	img, said := testkit.NewDir(t), filepath.Join(t.TempDir(), "said")
	e.Save(t, p.PID, img)
	sees := fmt.Sprintf("echo $$ $(sed -n 's/^PPid:\\s*//p' /proc/%d/status) $1 > %s; exit 6", p.PID, said)
	wait := e.StartForeground(t, img, "--exec-cmd", "--", "/bin/sh", "-c", sees, "sh", "-argument")
	if r := wait(); r.Code != 6 {
		t.Errorf("exit status %d, %q", r.Code, r.Stderr)
	}
	text, err := os.ReadFile(said)
	if w := strings.Fields(string(text)); err != nil || len(w) != 3 || w[0] != w[1] || w[2] != "-argument" {
		t.Errorf("the program saw %q, %v: it is not the parent of process %d", text, err, p.PID)
	}
	p.Go(t, 0, true)
	p.WaitExit(t, 4)
}

// A root that is to be killed when its parent ends lives as long as the engine that is
// its parent, or whose parent is, and no program takes its parent's place.
func TestParentsEnd(t *testing.T) {
	e := glisOnly(t)
	for _, who := range []string{"root", "thread"} {
		t.Run(who, func(t *testing.T) {
			testkit.NoLeaks(t)
			p := testkit.Start(t, testkit.NewDir(t), testkit.BuildC(t, "targets/heeds.c", "-pthread"), who, ".")
			p.AwaitAt(t, 0)
			img := testkit.NewDir(t)
			e.Save(t, p.PID, img)
			refused(t, e, []string{"restore", "-D", img, "--exec-cmd", "--", "/bin/true"}, "PR_SET_PDEATHSIG", "--exec-cmd", strconv.Itoa(p.PID))
			e.Restore(t, img, "--restore-sibling")
			if parent := testkit.Status(t, strconv.Itoa(p.PID), "PPid"); parent[0] != fmt.Sprint("PPid: ", os.Getpid()) {
				t.Errorf("with --restore-sibling: %s, want %d", parent[0], os.Getpid())
			}
			p.Go(t, 0, false)
			p.AwaitAt(t, 1)
			img = testkit.NewDir(t)
			e.Save(t, p.PID, img)
			wait := e.StartForeground(t, img)
			poll(t, "the restore is over", func() bool {
				log, _ := os.ReadFile(filepath.Join(img, "restore.log"))
				return strings.Contains(string(log), "Restore finished successfully")
			})
			p.Go(t, 1, false)
			p.AwaitAt(t, 2)
			p.Go(t, 2, true)
			if r := wait(); r.Code != 0 {
				t.Errorf("restore ended with %d: %s", r.Code, r.Stderr)
			}
		})
	}
}

// A restore with --leave-stopped leaves the tree stopped; SIGCONT is all it
// takes to go on.
func TestRestoreStopped(t *testing.T) {
	testkit.RequireRoot(t)
	testkit.NoLeaks(t)
	e := testkit.FindEngine(t)
	p := testkit.Start(t, testkit.NewDir(t), testkit.BuildC(t, "targets/exitcode.c"), "exit", "4", ".")
	p.AwaitAt(t, 0)
	img := testkit.NewDir(t)
	e.Save(t, p.PID, img)
	e.Restore(t, img, "--leave-stopped")
	pid := strconv.Itoa(p.PID)
	if got := strings.Join(testkit.Status(t, pid, "State", "TracerPid"), ", "); got != "State: T (stopped), TracerPid: 0" {
		t.Errorf("after the restore: %s", got)
	}
	if err := unix.Kill(p.PID, unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	p.Go(t, 0, true)
	p.WaitExit(t, 4)
}

// TestSoftLimits: what whoever restores allows himself (ulimit -S) is in nobody's way, and
// each task gets back the limits that it had.
func TestSoftLimits(t *testing.T) {
	e := glisOnly(t)
	var l unix.Rlimit
	for _, what := range []int{unix.RLIMIT_AS, unix.RLIMIT_DATA} {
		if mustDo(t, unix.Getrlimit(what, &l)); l.Max < 8<<30 {
			t.Skip("the hard limits are lower than what is tried")
		}
	}
	low := e
	low.Path = filepath.Join(testkit.NewDir(t), "low")
	script := "#!/bin/sh\nulimit -S -v 2100000; ulimit -S -d 1000000; ulimit -S -l 0\nexec " + e.Path + ` "$@"` + "\n"
	mustDo(t, os.WriteFile(low.Path, []byte(script), 0o755))
	testkit.Restored(t, testkit.Engines{Saver: e, Restorer: low}, testkit.Program{
		Argv: []string{testkit.BuildC(t, "targets/roomy.c")}, Generations: 2,
	})
}
