package test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/taskmem"
	"glis.dev/glis/internal/testkit"
)

// begunBy has an engine be executed by targets/inherits.c.
func begunBy(t *testing.T, e testkit.Engine, how string) testkit.Engine {
	t.Helper()
	name := filepath.Join(testkit.NewDir(t), "begun")
	script := "#!/bin/sh\nexec " + testkit.BuildC(t, "targets/inherits.c") + " " + how + " " + e.Path + ` "$@"` + "\n"
	mustDo(t, os.WriteFile(name, []byte(script), 0o755))
	e.Path = name
	return e
}

// What whoever restores hands on to his children is not the tree's.
func TestInherited(t *testing.T) {
	e := glisOnly(t)
	testkit.Restored(t, testkit.Engines{Saver: e, Restorer: begunBy(t, e, "much")}, testkit.Program{
		Argv: []string{testkit.BuildC(t, "targets/plain.c")}, Generations: 2,
	})
}

// Where it would be, and can't be taken off, nothing is restored.
func TestInheritedForGood(t *testing.T) {
	e := glisOnly(t)
	mdwe(t)
	p, img := ticking(t), testkit.NewDir(t)
	e.Save(t, p.PID, img)
	refused(t, begunBy(t, e, "mdwe"), []string{"restore", "-d", "-D", img}, "PR_SET_MDWE", "run Glis without")
}

// A Landlock sandbox in which Glis is, too, is not the tree's: dump and restore say so.
func TestInheritedSandbox(t *testing.T) {
	e := glisOnly(t)
	kernelMemory(t)
	if !taskmem.HasLandlock() {
		t.Skip("needs Landlock (CONFIG_SECURITY_LANDLOCK, lsm=)")
	}
	within := begunBy(t, e, "landlock")
	shell := begunBy(t, testkit.Engine{Path: testkit.RequireProgram(t, "sh", "dash")}, "landlock")
	img := testkit.NewDir(t)
	script := `"$1" "$2" & pid=$!; while ! test -e "$2"/at.0; do :; done; "$3" dump -t $pid -D "$4" -j; code=$?; wait; echo $pid > "$4"/pid; exit $code`
	r := shell.Run(t, "-c", script, "sh", testkit.BuildC(t, "targets/plain.c"), testkit.NewDir(t), e.Path, img)
	if r.Code != 0 || !strings.Contains(r.Stderr, "restored from within") {
		t.Fatalf("dump: %d, %s", r.Code, r.Stderr)
	}
	r = within.Run(t, "restore", "-d", "-D", img, "-j")
	if r.Code != 0 || !strings.Contains(r.Stderr, "in that, too") {
		t.Errorf("restore: %d, %s", r.Code, r.Stderr)
	}
	text, err := os.ReadFile(filepath.Join(img, "pid"))
	mustDo(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	mustDo(t, err)
	mustDo(t, unix.Kill(pid, unix.SIGKILL))
}
