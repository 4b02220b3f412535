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

// seedsEnv is how many random sequences TestRandomUnix, TestRandomInet, TestRandomMemory and
// TestRandomTree try, or FROM-TO.
const seedsEnv = "GLIS_RANDOM"

func seeds(t *testing.T) (from, to int) {
	t.Helper()
	text := os.Getenv(seedsEnv)
	if text == "" {
		return 1, 8
	}
	first, last, ok := strings.Cut(text, "-")
	if !ok {
		first, last = "1", text
	}
	from, err := strconv.Atoi(first)
	if err == nil {
		to, err = strconv.Atoi(last)
	}
	if err != nil {
		t.Fatalf("%s: %v", seedsEnv, err)
	}
	return from, to
}

// Random sequences of calls on unix sockets, over several tasks, are dumped
// and restored in between: what they see must be what they see without.
func TestRandomUnix(t *testing.T) {
	path := testkit.BuildC(t, "targets/unixrandom.c")
	randomly(t, 0, func(seed int) testkit.Program {
		return testkit.Program{Argv: []string{path, strconv.Itoa(seed), strconv.Itoa(20 + seed%60)}}
	})
}

// randomly has a program for each seed, made in its test, dumped and restored in between, or
// dumped with --leave-running, and compared with the same one by itself. So many dumps of the seeds
// that are tried by default may be refused for a known reason, so that no new refusal hides in those.
func randomly(t *testing.T, refusals int, program func(seed int) testkit.Program, more ...string) {
	t.Helper()
	e := glisOnly(t)
	from, to := seeds(t)
	refused := 0
	defer func() {
		if t.Logf("%d dumps were refused", refused); refused > refusals && os.Getenv(seedsEnv) == "" {
			t.Errorf("not more than %d should be", refusals)
		}
	}()
	for seed := from; seed <= to; seed++ {
		t.Run(strconv.Itoa(seed), func(t *testing.T) {
			p := program(seed)
			p.Generations = 3
			testkit.Compared(t, p, func(t *testing.T, proc *testkit.Proc, n int) {
				if !saveRandom(t, e, proc, (seed+n)%3 == 0, more...) {
					refused++
				}
			})
		})
	}
}

// known are states that limits.md says are refused.
var known = []string{"nobody else in the tree has open", "hasn't accepted it yet", "no longer shown",
	"has never been in", "which is not its parent", "in more sessions", "not the first of a process", "which is gone; have the program delete it",
	"a table of descriptors of its own", "TIOCSETD", "nobody has opened its slave", "nobody in the tree has its slave", "can't be put back", "its lease lets others read", "a pidfd of it has a lease", "wants a signal when its parent ends", "its connection has ended, and urgent data waits"}

// dumpRandom dumps the program, unless that is refused for a known reason.
func dumpRandom(t *testing.T, e testkit.Engine, proc *testkit.Proc, img string, more ...string) bool {
	t.Helper()
	args := append([]string{"dump", "-t", strconv.Itoa(proc.PID), "-D", img, "-o", "dump.log", "-v4"}, more...)
	r := e.Run(t, args...)
	if r.Code == 0 {
		return true
	}
	for _, k := range known {
		if strings.Contains(r.Stderr, k) {
			t.Logf("refused: %s", r.Stderr)
			return false
		}
	}
	t.Fatalf("%s\n%s", r.Stderr, testkit.LogTail(filepath.Join(img, "dump.log")))
	return false
}

// saveRandom saves the program, unless that is refused: left running first, then restored.
func saveRandom(t *testing.T, e testkit.Engine, proc *testkit.Proc, running bool, flags ...string) bool {
	t.Helper()
	tree := testkit.Tree(proc.PID)
	img, stopped := testkit.NewDir(t), testkit.Stopped(t, proc.PID)
	if !dumpRandom(t, e, proc, img, append([]string{"--leave-running"}, flags...)...) {
		return false
	}
	testkit.Unharmed(t, proc.PID, stopped...)
	if running {
		return true
	}
	img = testkit.NewDir(t)
	if !dumpRandom(t, e, proc, img, flags...) {
		return false
	}
	testkit.Reap(t, tree)
	if pid := e.Restore(t, img, flags...); pid != proc.PID {
		t.Fatal(fmt.Errorf("restored as %d, was %d", pid, proc.PID))
	}
	return true
}
