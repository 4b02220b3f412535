package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/testkit"
)

// Where /proc is missing, or is that of another PID namespace, in which numbers mean other
// processes, that is said before anything is done.
func TestOtherProc(t *testing.T) {
	e := glisOnly(t)
	testkit.NoLeaks(t)
	p := ticking(t)
	img, bare := testkit.NewDir(t), testkit.NewDir(t)
	e.Save(t, p.PID, img, "-R")
	program, err := os.ReadFile(e.Path)
	if err != nil {
		t.Fatal(err)
	}
	mustDo(t, os.WriteFile(filepath.Join(bare, "glis"), program, 0o755))
	mustDo(t, os.CopyFS(filepath.Join(bare, "img"), os.DirFS(img)))
	mustDo(t, os.Mkdir(filepath.Join(bare, "new"), 0o700))
	for _, c := range []struct {
		attr           syscall.SysProcAttr
		path, in, want string
	}{
		{syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID}, e.Path, bare, "another PID namespace"},
		{syscall.SysProcAttr{Chroot: bare}, "/glis", "", "mount -t proc proc /proc"},
	} {
		for _, args := range [][]string{{"dump", "-t", "1", "-D", c.in + "/new"}, {"restore", "-d", "-D", c.in + "/img"}} {
			cmd := exec.Command(c.path, args...)
			cmd.SysProcAttr, cmd.Dir = &c.attr, "/"
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), c.want) {
				t.Errorf("%v: %v: %s", args, err, out)
			}
		}
	}
	empty(t, filepath.Join(bare, "new"))
	awaitCount(t, p, 3)
}
