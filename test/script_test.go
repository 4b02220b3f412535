package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"glis.dev/glis/internal/testkit"
)

// scriptFile makes a program that notes what it is told, and fails at one
// stage.
func scriptFile(t *testing.T, fails string) (path string, said func() string) {
	t.Helper()
	dir := testkit.NewDir(t)
	path, log := filepath.Join(dir, "script"), filepath.Join(dir, "log")
	text := fmt.Sprintf("#!%s\necho $CRTOOLS_SCRIPT_ACTION $CRTOOLS_IMAGE_DIR $CRTOOLS_INIT_PID $# >> %s\n[ $CRTOOLS_SCRIPT_ACTION != %s ]\n", testkit.RequireProgram(t, "sh", "dash"), log, fails)
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	return path, func() string {
		b, _ := os.ReadFile(log)
		return string(b)
	}
}

// A script is run at each stage and told which; criu's tools rely on that.
func TestActionScript(t *testing.T) {
	testkit.RequireRoot(t)
	testkit.NoLeaks(t)
	e := testkit.FindEngine(t)
	p := testkit.Start(t, testkit.NewDir(t), testkit.BuildC(t, "targets/exitcode.c"), "exit", "5", ".")
	p.AwaitAt(t, 0)
	img := testkit.NewDir(t)
	script, said := scriptFile(t, "never")
	e.Save(t, p.PID, img, "--action-script", script)
	e.Restore(t, img, "--action-script", script)
	var want strings.Builder
	for _, stage := range []string{"pre-dump", "post-dump", "pre-restore", "post-restore", "pre-resume", "post-resume"} {
		pid := strconv.Itoa(p.PID) + " "
		if stage == "pre-restore" {
			pid = "" // there is none yet
		}
		fmt.Fprintf(&want, "%s %s %s0\n", stage, img, pid)
	}
	if e.Glis && said() != want.String() {
		t.Errorf("the script was told:\n%swant:\n%s", said(), want.String())
	}
	p.Go(t, 0, true)
	p.WaitExit(t, 5)
}

// A script that fails ends the dump or restore: the tree runs on, or nothing of
// it stays.
func TestActionScriptFails(t *testing.T) {
	e := glisOnly(t)
	p := ticking(t)
	for _, stage := range []string{"pre-dump", "post-dump"} {
		script, _ := scriptFile(t, stage)
		img := testkit.NewDir(t)
		refused(t, e, []string{"dump", "-t", strconv.Itoa(p.PID), "-D", img, "--action-script", script}, stage, script)
		testkit.Unharmed(t, p.PID)
		awaitCount(t, p, 3)
		empty(t, img)
	}
	img := testkit.NewDir(t)
	e.Save(t, p.PID, img)
	for _, stage := range []string{"pre-restore", "post-restore"} {
		script, _ := scriptFile(t, stage)
		refused(t, e, []string{"restore", "-d", "-D", img, "--action-script", script}, stage, script)
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", p.PID)); err == nil {
			t.Errorf("%s: the tree is there", stage)
		}
	}
	e.Restore(t, img)
	awaitCount(t, p, 3)
}

// When the tree is about to run, nobody else has its sockets any more: one that
// it closed would live on, and its epoll file would report it.
func TestEngineLetsGo(t *testing.T) {
	e := glisOnly(t)
	for _, how := range []string{"--tcp-established", "--tcp-close"} {
		t.Run(how, func(t *testing.T) {
			testkit.NoLeaks(t)
			p := testkit.Start(t, testkit.NewDir(t), testkit.BuildC(t, "targets/echo.c"))
			clients := dialMany(t, p, "127.0.0.1")
			img, dir := testkit.NewDir(t), testkit.NewDir(t)
			script := filepath.Join(dir, "script")
			text := fmt.Sprintf("#!%s\n[ $CRTOOLS_SCRIPT_ACTION = pre-resume ] || exit 0\ncd %s\nreadlink /proc/$PPID/fd/* > engine\nreadlink /proc/$CRTOOLS_INIT_PID/fd/* > tree\n", testkit.RequireProgram(t, "sh", "dash"), dir)
			if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
				t.Fatal(err)
			}
			e.Save(t, p.PID, img, how)
			e.Restore(t, img, how, "--action-script", script)
			engine, tree := socketsIn(t, filepath.Join(dir, "engine")), socketsIn(t, filepath.Join(dir, "tree"))
			if len(tree) < len(clients) {
				t.Fatalf("the tree has %d sockets, and %d clients", len(tree), len(clients))
			}
			for s := range tree {
				if engine[s] {
					t.Errorf("the engine has %s, too", s)
				}
			}
			for _, c := range clients {
				c.stop.Store(true)
				c.done.Wait()
			}
		})
	}
}

func socketsIn(t *testing.T, list string) map[string]bool {
	t.Helper()
	text, err := os.ReadFile(list)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]bool{}
	for _, line := range strings.Fields(string(text)) {
		if strings.HasPrefix(line, "socket:") {
			all[line] = true
		}
	}
	return all
}
