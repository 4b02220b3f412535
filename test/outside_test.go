package test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/testkit"
)

// pipeOf makes a pipe and returns its ends and its number.
func pipeOf(t *testing.T) (r, w *os.File, ino uint64) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	var st unix.Stat_t
	if err := unix.Fstat(int(r.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	return r, w, st.Ino
}

// A pipe whose other end is outside, and a file, are replaced by what Glis was
// started with.
func TestInheritFD(t *testing.T) {
	e := glisOnly(t)
	testkit.NoLeaks(t)
	dir := testkit.NewDir(t)
	first, err := os.OpenFile(filepath.Join(dir, "first"), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	r, w, ino := pipeOf(t)
	io.WriteString(w, "one\n")
	p := testkit.StartWith(t, dir, &os.ProcAttr{Files: []*os.File{r, first, first}, Sys: &syscall.SysProcAttr{Setsid: true}}, testkit.BuildC(t, "targets/lines.c"), dir)
	p.AwaitAt(t, 0)
	pipe := strconv.FormatUint(ino, 10)
	dump := []string{"dump", "-t", strconv.Itoa(p.PID), "-D", testkit.NewDir(t)}
	refused(t, e, dump, "its end for writing is held outside", "--external pipe["+pipe+"]")
	testkit.Unharmed(t, p.PID)

	img := testkit.NewDir(t)
	e.Save(t, p.PID, img, "--external", "pipe["+pipe+"]")
	refused(t, e, []string{"restore", "-d", "-D", img}, "fd[N]:pipe:["+pipe+"]")
	refused(t, e, []string{"restore", "-d", "-D", img, "--inherit-fd", "fd[77]:pipe:[" + pipe + "]"}, "without descriptor 77")
	refused(t, e, []string{"restore", "-d", "-D", img, "--inherit-fd", "fd[1]:pipe:[" + pipe + "]"}, "another sort")

	second, err := os.Create(filepath.Join(dir, "second"))
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	r, w, _ = pipeOf(t)
	io.WriteString(w, "two\n")
	e.Extra = []*os.File{r, second}
	e.Restore(t, img, "--inherit-fd", fmt.Sprintf("fd[3]:pipe:[%d]", ino), "--inherit-fd", "fd[4]:"+strings.TrimPrefix(first.Name(), "/"))
	testkit.Unharmed(t, p.PID)
	p.Go(t, 0, true)
	p.WaitExit(t, 0)
	for name, want := range map[string]string{"first": "one\n", "second": "two\n"} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
			t.Errorf("%s holds %q (%v), want %q", name, got, err, want)
		}
	}
}
