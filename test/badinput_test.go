package test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/testkit"
)

// glisOnly returns the engine, and skips what is promised by Glis alone.
func glisOnly(t testing.TB) testkit.Engine {
	t.Helper()
	testkit.RequireRoot(t)
	e := testkit.FindEngine(t)
	if !e.Glis {
		t.Skip("asserts what Glis says")
	}
	return e
}

// refused runs the engine and checks that it ends with 1 and says so in one
// line that contains all the words.
func refused(t *testing.T, e testkit.Engine, args []string, words ...string) {
	t.Helper()
	r := e.Run(t, args...)
	if r.Code != 1 {
		t.Errorf("%v: exit status %d, want 1", args, r.Code)
	}
	said := strings.TrimSuffix(testkit.Unwarned(r.Stderr), "\n")
	if said == "" || strings.Contains(said, "\n") {
		t.Errorf("%v: want one line on stderr, got:\n%s", args, r.Stderr)
	}
	if strings.Contains(said, "panic") || strings.Contains(said, "goroutine ") {
		t.Errorf("%v: panicked:\n%s", args, r.Stderr)
	}
	for _, w := range words {
		if !strings.Contains(said, w) {
			testkit.NotShown(t, said)
			t.Errorf("%v: the message does not name %q:\n%s", args, w, said)
		}
	}
}

// ticking starts a counter that has to go on, untouched, after the test.
func ticking(t *testing.T) *testkit.Proc {
	t.Helper()
	p := testkit.Start(t, testkit.NewDir(t), testkit.BuildC(t, "targets/ticker.c"), ".")
	awaitCount(t, p, 3)
	return p
}

// harmless runs a refused dump of a counter and checks that it goes on.
func harmless(t *testing.T, e testkit.Engine, p *testkit.Proc, dir string, words ...string) {
	t.Helper()
	before := testkit.Look(t, p.PID)
	refused(t, e, []string{"dump", "-t", strconv.Itoa(p.PID), "-D", dir}, words...)
	testkit.Unharmed(t, p.PID)
	if diff := testkit.Diff(before, testkit.Look(t, p.PID), "/count "); diff != "" {
		t.Errorf("the refused dump changed the target:\n%s", diff)
	}
	awaitCount(t, p, 3)
}

// empty fails the test if a failed dump left files in dir.
func empty(t *testing.T, dir string) {
	t.Helper()
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		t.Errorf("left behind: %s", e.Name())
	}
}

func TestBadTask(t *testing.T) {
	e := glisOnly(t)
	testkit.NoLeaks(t)
	gone := testkit.Start(t, testkit.NewDir(t), testkit.RequireProgram(t, "true", "coreutils"))
	gone.WaitExit(t, 0)
	is := func(pid string) func(testing.TB) string { return func(testing.TB) string { return pid } }
	tests := []struct {
		name string
		pid  func(testing.TB) string
	}{
		{"no such process", is(strconv.Itoa(gone.PID))},
		{"impossible number", is("4194305")},
		{"kernel thread", kernelThread},
		{"ancestor", is(strconv.Itoa(os.Getpid()))},
	}
	for _, x := range tests {
		t.Run(x.name, func(t *testing.T) {
			pid, dir := x.pid(t), testkit.NewDir(t)
			// Should it not be refused, then at least nobody is killed.
			refused(t, e, []string{"dump", "-t", pid, "-D", dir, "--leave-running"}, pid)
			empty(t, dir)
		})
	}
	for _, pid := range []string{"0", "x", ""} {
		t.Run("pid "+pid, func(t *testing.T) {
			dir := testkit.NewDir(t)
			refused(t, e, []string{"dump", "-t", pid, "-D", dir, "--leave-running"})
			empty(t, dir)
		})
	}
}

// TestItself: a dump whose PID is known before it is Glis: a shell becomes it.
func TestItself(t *testing.T) {
	e := glisOnly(t)
	testkit.NoLeaks(t)
	dir := testkit.NewDir(t)
	sh := testkit.RequireProgram(t, "sh", "dash")
	out, err := exec.Command(sh, "-c", `exec "$0" dump -t $$ -D "$1" --leave-running`, e.Path, dir).CombinedOutput()
	var status *exec.ExitError
	if !errors.As(err, &status) || status.ExitCode() != 1 || !strings.Contains(string(out), "is Glis itself") || strings.Count(string(out), "\n") != 1 {
		t.Errorf("%v: %s", err, out)
	}
	empty(t, dir)
}

// kernelThread finds one; in a container there may be none.
func kernelThread(t testing.TB) string {
	t.Helper()
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range stats {
		stat, _ := os.ReadFile(name)
		f := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		const flagsField, kthread = 6, 0x00200000 // PF_KTHREAD, include/linux/sched.h
		if len(f) > flagsField {
			if flags, _ := strconv.Atoi(f[flagsField]); flags&kthread != 0 {
				return filepath.Base(filepath.Dir(name))
			}
		}
	}
	t.Skip("no kernel thread to be seen")
	return ""
}

func TestBadFolder(t *testing.T) {
	e := glisOnly(t)
	testkit.NoLeaks(t)
	p := ticking(t)
	t.Run("missing", func(t *testing.T) {
		harmless(t, e, p, "/nonexistent/folder", "/nonexistent/folder")
	})
	t.Run("a file", func(t *testing.T) {
		file := filepath.Join(testkit.NewDir(t), "file")
		if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		harmless(t, e, p, file, file)
	})
	t.Run("read-only", func(t *testing.T) {
		dir := mountTmpfs(t, unix.MS_RDONLY, "size=1m")
		harmless(t, e, p, dir, dir)
	})
	t.Run("full", func(t *testing.T) {
		dir := mountTmpfs(t, 0, "size=32k")
		harmless(t, e, p, dir, "space")
		empty(t, dir)
	})
	t.Run("another checkpoint", func(t *testing.T) {
		dir := testkit.NewDir(t)
		e.Save(t, p.PID, dir, "--leave-running")
		before := contents(t, dir)
		harmless(t, e, p, dir, dir)
		if diff := testkit.Diff(before, contents(t, dir)); diff != "" {
			t.Errorf("the first checkpoint changed:\n%s", diff)
		}
	})
}

// mountTmpfs mounts a small file system for the time of the test.
func mountTmpfs(t *testing.T, flags uintptr, data string) string {
	t.Helper()
	dir := testkit.NewDir(t)
	if err := unix.Mount("tmpfs", dir, "tmpfs", flags, data); err != nil {
		t.Fatalf("mount tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("umount %s: %v", dir, err)
			_ = unix.Unmount(dir, unix.MNT_DETACH)
		}
	})
	return dir
}

// contents lists names and sizes.
func contents(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, e.Name()+" "+strconv.FormatInt(info.Size(), 10)+" "+info.ModTime().String())
	}
	return out
}

// checkpoint saves a copy of the ticker's executable, so that tests can
// damage what the restore needs.
func checkpoint(t *testing.T, e testkit.Engine) (img string, p *testkit.Proc, exe string) {
	t.Helper()
	dir := testkit.NewDir(t)
	exe = filepath.Join(dir, "ticker")
	text, err := os.ReadFile(testkit.BuildC(t, "targets/ticker.c"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(exe, text, 0o755); err != nil {
		t.Fatal(err)
	}
	p = testkit.Start(t, dir, exe, ".")
	awaitCount(t, p, 3)
	img = testkit.NewDir(t)
	e.Save(t, p.PID, img)
	return img, p, exe
}

// harm damages one thing a restore needs. It returns what the refusal has to
// name and how to repair the damage.
type harm func(t *testing.T, img string, p *testkit.Proc, exe string) (words []string, repair func())

func missingExecutable(t *testing.T, _ string, _ *testkit.Proc, exe string) ([]string, func()) {
	rename(t, exe, exe+".away")
	return []string{exe}, func() { rename(t, exe+".away", exe) }
}

func otherExecutable(t *testing.T, _ string, _ *testkit.Proc, exe string) ([]string, func()) {
	rename(t, exe, exe+".away")
	other := testkit.BuildC(t, "targets/ticker.c", "-Wl,--build-id=0x12345678")
	text, err := os.ReadFile(other)
	if err == nil {
		err = os.WriteFile(exe, text, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	return []string{exe, "build"}, func() { rename(t, exe+".away", exe) }
}

// shorterExecutable has the build-id that it had: it is the file's size that tells.
func shorterExecutable(t *testing.T, _ string, _ *testkit.Proc, exe string) ([]string, func()) {
	return []string{exe, "shorter"}, cut(t, exe, 1)
}

func missingFile(t *testing.T, _ string, p *testkit.Proc, _ string) ([]string, func()) {
	count := filepath.Join(p.Dir, "count")
	rename(t, count, count+".away")
	return []string{count}, func() { rename(t, count+".away", count) }
}

func shorterFile(t *testing.T, _ string, p *testkit.Proc, _ string) ([]string, func()) {
	count := filepath.Join(p.Dir, "count")
	return []string{count}, cut(t, count, 1)
}

func pidInUse(t *testing.T, _ string, p *testkit.Proc, _ string) ([]string, func()) {
	return []string{strconv.Itoa(p.PID)}, occupy(t, p.PID).Kill
}

func noCheckpoint(t *testing.T, img string, _ *testkit.Proc, _ string) ([]string, func()) {
	rename(t, img, img+".away")
	if err := os.Mkdir(img, 0o755); err != nil {
		t.Fatal(err)
	}
	return []string{img}, func() {
		if err := os.Remove(img); err != nil {
			t.Errorf("the restore left something in an empty folder: %v", err)
			os.RemoveAll(img)
		}
		rename(t, img+".away", img)
	}
}

// TestBadRestore damages one thing, is refused, and repairs it: the restore
// has to work then, which also shows that the refusal left nothing behind.
func TestBadRestore(t *testing.T) {
	e := glisOnly(t)
	tests := []struct {
		name string
		harm harm
	}{
		{"missing executable", missingExecutable},
		{"another executable", otherExecutable},
		{"shorter executable", shorterExecutable},
		{"missing file", missingFile},
		{"shorter file", shorterFile},
		{"pid in use", pidInUse},
		{"no checkpoint", noCheckpoint},
	}
	for _, x := range tests {
		t.Run(x.name, func(t *testing.T) {
			testkit.NoLeaks(t)
			img, p, exe := checkpoint(t, e)
			words, repair := x.harm(t, img, p, exe)
			refused(t, e, []string{"restore", "-d", "-D", img}, words...)
			repair()
			e.Restore(t, img)
			awaitCount(t, p, 3)
		})
	}
}

// A program that is another file by now, of another time, is the same if its build-id
// and size are.
func TestSameProgramAgain(t *testing.T) {
	e := glisOnly(t)
	testkit.NoLeaks(t)
	img, p, exe := checkpoint(t, e)
	var before, after unix.Stat_t
	err1 := unix.Stat(exe, &before)
	text, err2 := os.ReadFile(exe)
	rename(t, exe, exe+".away")
	err3 := os.WriteFile(exe, text, 0o755)
	err4 := os.Chtimes(exe, time.Unix(1, 0), time.Unix(1, 0))
	if err := errors.Join(err1, err2, err3, err4, unix.Stat(exe, &after)); err != nil {
		t.Fatal(err)
	}
	if before.Ino == after.Ino || before.Mtim == after.Mtim {
		t.Fatal("it is the same file")
	}
	e.Restore(t, img)
	awaitCount(t, p, 3)
}

// TestBadImage cuts every image, changes its magic, and fills it with
// nonsense: the restore names the file and does nothing else. There are no
// checksums, as in criu's images, that would tell before anything is read.
func TestBadImage(t *testing.T) {
	e := glisOnly(t)
	testkit.NoLeaks(t)
	img, p, _ := checkpoint(t, e)
	unmark(t, img)
	names, _ := filepath.Glob(filepath.Join(img, "*.img"))
	for _, path := range names {
		name := filepath.Base(path)
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for how, bad := range damage(name, good) {
			t.Run(name+" "+how, func(t *testing.T) {
				write(t, path, bad)
				defer write(t, path, good)
				refused(t, e, []string{"restore", "-d", "-v1", "-D", img}, name) // without the warning
			})
			p.Kill() // restored after all: the next one must not find it there
		}
	}
	e.Restore(t, img)
	awaitCount(t, p, 3)
}

// damage returns what may have become of an image. Pages have no structure
// of their own: of them only the size is wrong.
func damage(name string, good []byte) map[string][]byte {
	if len(good) < 8 {
		return nil
	}
	bad := map[string][]byte{"empty": {}, "cut": good[:len(good)-3]}
	if strings.HasPrefix(name, "pages-") {
		return bad
	}
	magic := bytes.Clone(good)
	magic[0] ^= 0xff
	magic[5] ^= 0xff
	bad["magic"] = magic
	if len(good) > 12 {
		size := bytes.Clone(good)
		copy(size[8:12], "\xff\xff\xff\x7f")
		bad["huge entry"] = size
		body := bytes.Clone(good)
		for i := 12; i < len(body); i++ {
			body[i] = 0xff
		}
		bad["nonsense"] = body
	}
	return bad
}

// occupy starts a process with this PID. os/exec cannot ask for a number, so
// it sets the last one given out and tries again when somebody else was first.
// Afterwards numbers go on elsewhere, so that nobody takes the neighbours.
func occupy(t *testing.T, pid int) *testkit.Proc {
	t.Helper()
	p := numbered(t, pid)
	awaitFree(t, pid+1, pid+20)
	return p
}

// numbered is occupy where neighbours may be taken.
func numbered(t *testing.T, pid int) *testkit.Proc {
	t.Helper()
	const lastPID = "/proc/sys/kernel/ns_last_pid"
	for range 200 {
		if err := os.WriteFile(lastPID, []byte(strconv.Itoa(pid-1)), 0); err != nil {
			t.Skipf("cannot choose a PID: %v", err)
		}
		p := testkit.Start(t, testkit.NewDir(t), testkit.RequireProgram(t, "sleep", "coreutils"), "3600")
		if p.PID == pid {
			if err := os.WriteFile(lastPID, []byte(strconv.Itoa(pid+500)), 0); err != nil && !errors.Is(err, unix.EINVAL) {
				t.Fatal(err)
			} // EINVAL: it would be above kernel.pid_max
			return p
		}
		p.Kill()
	}
	t.Skip("the PID was never free at the right moment")
	return nil
}

// awaitFree waits until nobody has numbers that others, who run besides, may have got
// while the next one was chosen.
func awaitFree(t *testing.T, from, to int) {
	t.Helper()
	end := time.Now().Add(testkit.Patience)
	for pid := from; pid <= to; pid++ {
		for unix.Kill(pid, 0) != unix.ESRCH {
			if time.Now().After(end) {
				t.Fatalf("somebody else has the number %d", pid)
			}
			time.Sleep(time.Millisecond)
		}
	}
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// cut shortens a file by n bytes and returns what puts them back.
func cut(t *testing.T, path string, n int64) (repair func()) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, int64(len(text))-n); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Error(err)
		}
	}
}

// Where /dev/null is missing, as in a bare chroot, the guardian can't begin: both verbs say
// how to make it.
func TestNoNull(t *testing.T) {
	e, p, dir := glisOnly(t), ticking(t), testkit.NewDir(t)
	whole := testkit.NewDir(t)
	e.Save(t, p.PID, whole, "--leave-running")
	bare := e
	bare.Path = filepath.Join(dir, "bare")
	script := "#!/bin/sh\nexec " + testkit.RequireProgram(t, "unshare", "util-linux") + ` --mount sh -c 'mount -t tmpfs none /dev; exec "$0" "$@"' ` + e.Path + ` "$@"` + "\n"
	mustDo(t, os.WriteFile(bare.Path, []byte(script), 0o755))
	img := testkit.NewDir(t)
	harmless(t, bare, p, img, "/dev/null", "mknod")
	empty(t, img)
	p.Kill()
	refused(t, bare, []string{"restore", "-d", "-D", whole}, "/dev/null", "mknod")
}
