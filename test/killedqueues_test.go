package test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/testkit"
)

// A dump that is killed at any moment leaves every queue as it was, with all
// that is in it, and every connection that waits.
func TestKilledQueues(t *testing.T) {
	testkit.RequireRoot(t)
	e := glisOnly(t)
	for _, x := range targets {
		switch x.name {
		case "unixdgram", "unixqueue", "unixwaiting", "tcpsent":
		default:
			continue
		}
		t.Run(x.name, func(t *testing.T) {
			p := x.program(t)
			p.Generations = 1
			testkit.Compared(t, p, func(t *testing.T, proc *testkit.Proc, n int) {
				for i := range kills() {
					killQuietly(t, e, proc.PID, i%2 == 0, x.dump...)
				}
			})
		})
	}
}

// killQuietly kills a dump; what is complete then is restored.
func killQuietly(t *testing.T, e testkit.Engine, pid int, running bool, flags ...string) {
	t.Helper()
	img := testkit.NewDir(t)
	args := append([]string{"dump", "-t", strconv.Itoa(pid), "-D", img}, flags...)
	if running {
		args = append(args, "--leave-running")
	}
	tree := testkit.Tree(pid)
	killedRun(t, e, rand.N(2*longest), unix.SIGKILL, args...)
	if _, err := os.Stat(filepath.Join(img, "inventory.img")); err == nil && !running {
		testkit.Reap(t, tree)
		e.Restore(t, img, flags...)
	}
	testkit.Unharmed(t, pid)
}
