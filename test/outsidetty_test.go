package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/testkit"
)

// A terminal that the user names is replaced by another one, also as that which
// controls a session: as the console of a container is, by whoever runs it.
// The images are criu's.
func TestExternalTTY(t *testing.T) {
	testkit.RequireRoot(t)
	e := testkit.FindEngine(t)
	t.Run("same", func(t *testing.T) { externalTTY(t, e, e) })
	path, err := exec.LookPath("criu")
	if err != nil {
		return
	}
	if criu := testkit.NewEngine(t, path); !criu.Glis && e.Glis {
		t.Run("from criu", func(t *testing.T) { externalTTY(t, criu, e) })
		t.Run("to criu", func(t *testing.T) { externalTTY(t, e, criu) })
	}
}

func externalTTY(t *testing.T, saver, restorer testkit.Engine) {
	testkit.NoLeaks(t)
	dir, img := testkit.NewDir(t), testkit.NewDir(t)
	mode := "more"
	if !saver.Glis {
		mode = "base"
	}
	_, first := openPTY(t)
	want := &unix.Winsize{Row: 33, Col: 77}
	mustDo(t, unix.IoctlSetWinsize(int(first.Fd()), unix.TIOCSWINSZ, want))
	p := testkit.StartWith(t, dir, jobAttr(first), testkit.BuildC(t, "targets/tty.c"), mode, ".")
	p.AwaitAt(t, 0)
	var st unix.Stat_t
	mustDo(t, unix.Fstat(int(first.Fd()), &st))
	key := fmt.Sprintf("tty[%x:%x]", st.Rdev, st.Dev)
	if saver.Glis {
		refused(t, saver, []string{"dump", "-t", strconv.Itoa(p.PID), "-D", img}, "--external '"+key+"'")
	}
	saver.Save(t, p.PID, img, "--external", key)
	first.Close()
	if restorer.Glis && saver.Glis {
		refused(t, restorer, []string{"restore", "-d", "-D", img}, "--inherit-fd 'fd[N]:"+key+"'")
		refused(t, restorer, []string{"restore", "-d", "-D", img, "--inherit-fd", "fd[77]:" + key}, "without descriptor 77")
		refused(t, restorer, []string{"restore", "-d", "-D", img, "--inherit-fd", "fd[0]:" + key}, "no terminal")
	}
	master, second := openPTY(t)
	restorer.Extra = []*os.File{second}
	restorer.Restore(t, img, "--inherit-fd", "fd[3]:"+key)
	second.Close()
	p.Go(t, 0, true)
	p.WaitExit(t, 0)
	seen := func(n int) string {
		b, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("obs.%d.root", n)))
		mustDo(t, err)
		_, after, _ := strings.Cut(string(b), "modes ") // it is another terminal, by another name
		return after
	}
	if seen(1) != seen(0) {
		t.Errorf("before:\n%s\nafter:\n%s", seen(0), seen(1))
	}
	if shown := readPTY(t, master, "written 1"); !strings.Contains(shown, "written 1") || strings.Contains(shown, "written 0") {
		t.Errorf("the other terminal showed %q", shown)
	}
}
