package test

import (
	"fmt"
	"math/rand/v2"
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

// killsEnv is at how many random moments of each kind the engine is killed.
const killsEnv = "GLIS_KILLS"

func kills() int {
	if n, err := strconv.Atoi(os.Getenv(killsEnv)); err == nil {
		return n
	}
	return 8
}

// killedRun runs the engine and sends it a signal after a while. It returns
// when engine and guardian have ended: both have the pipe that is read here.
func killedRun(t *testing.T, e testkit.Engine, after time.Duration, sig unix.Signal, args ...string) {
	t.Helper()
	cmd := exec.Command(e.Path, args...)
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(after, func() { _ = cmd.Process.Signal(sig) })
	_ = cmd.Wait() // however it ends
	timer.Stop()
	if strings.Contains(said.String(), "Error (guardian)") {
		t.Error(said.String())
	}
}

// noMapping fails if a task of the tree has memory that looks like Glis's.
func noMapping(t *testing.T, pid int) {
	t.Helper()
	if err := mapping(pid); err != nil {
		t.Error(err)
	}
}

// mapping tells which task of the tree has memory that looks like Glis's.
func mapping(pid int) error {
	for _, p := range testkit.Tree(pid) {
		for line := range strings.Lines(mapsOf(p)) {
			if f := strings.Fields(line); len(f) == 5 && f[1] == "rwxp" {
				return fmt.Errorf("task %d has a mapping of Glis's left: %s", p, line)
			}
		}
	}
	return nil
}

// mapsOf returns the mappings of a process, of which a first thread that has ended
// shows none.
func mapsOf(pid int) string {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/maps", pid))
	for _, path := range threads {
		if maps, _ := os.ReadFile(path); len(maps) > 0 {
			return string(maps)
		}
	}
	return ""
}

func images(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.img"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

var killSignals = []unix.Signal{unix.SIGKILL, unix.SIGTERM, unix.SIGABRT}

// A dump whose engine is killed at any moment either has not happened, or is
// complete and its tree is gone.
func TestKilledDump(t *testing.T) {
	testkit.RequireRoot(t)
	e := glisOnly(t)
	for _, c := range counters[:2] {
		for _, sig := range killSignals {
			for _, running := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s/%v/running=%v", c.name, sig, running), func(t *testing.T) {
					testkit.NoLeaks(t)
					p := testkit.Start(t, testkit.NewDir(t), c.argv(t)...)
					awaitCount(t, p, 3)
					for range kills() {
						killDump(t, e, p, sig, running)
					}
				})
			}
		}
	}
}

// longest is about how long a dump or restore of a small tree takes here.
const longest = 40 * time.Millisecond

func killDump(t *testing.T, e testkit.Engine, p *testkit.Proc, sig unix.Signal, running bool) {
	img := testkit.NewDir(t)
	args := []string{"dump", "-t", strconv.Itoa(p.PID), "-D", img}
	if running {
		args = append(args, "--leave-running")
	}
	tree := testkit.Tree(p.PID)
	killedRun(t, e, rand.N(longest), sig, args...)
	_, err := os.Stat(filepath.Join(img, "inventory.img"))
	complete := err == nil
	if left := images(t, img); !complete && len(left) > 0 {
		t.Errorf("images of a dump that was not completed: %v", left)
	}
	if complete && !running {
		testkit.Reap(t, tree)
		e.Restore(t, img)
	}
	testkit.Unharmed(t, p.PID)
	noMapping(t, p.PID)
	awaitCount(t, p, 3)
	os.RemoveAll(img)
}

// A restore whose engine is killed at any moment leaves either nothing or the
// whole tree, and can be tried again.
func TestKilledRestore(t *testing.T) {
	testkit.RequireRoot(t)
	e := glisOnly(t)
	for _, sig := range killSignals {
		t.Run(sig.String(), func(t *testing.T) {
			testkit.NoLeaks(t)
			p := testkit.Start(t, testkit.NewDir(t), counters[0].argv(t)...)
			awaitCount(t, p, 3)
			img := testkit.NewDir(t)
			e.Save(t, p.PID, img)
			for range kills() {
				killedRun(t, e, rand.N(longest), sig, "restore", "-d", "-D", img)
				tree := testkit.Tree(p.PID)
				if len(tree) > 0 && !zombie(p.PID) {
					testkit.Unharmed(t, p.PID)
					noMapping(t, p.PID)
					awaitCount(t, p, 3)
					img = testkit.NewDir(t)
					e.Save(t, p.PID, img)
					continue
				}
				testkit.Reap(t, tree)
			}
			e.Restore(t, img)
			awaitCount(t, p, 3)
		})
	}
}

func zombie(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && strings.Contains(string(stat), ") Z ")
}
