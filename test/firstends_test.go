package test

import (
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/testkit"
)

// An engine that is killed while it dumps processes whose first threads have ended
// leaves nothing in them: the guardian finds their memory by their other threads.
func TestFirstEndsKilled(t *testing.T) {
	testkit.RequireRoot(t)
	e := glisOnly(t)
	testkit.NoLeaks(t)
	p := testkit.Start(t, testkit.NewDir(t), testkit.BuildC(t, "targets/firstends.c"), ".")
	p.AwaitAt(t, 0)
	dump := func(end time.Duration) {
		killedRun(t, e, end, unix.SIGKILL, "dump", "-t", strconv.Itoa(p.PID), "-D", testkit.NewDir(t), "--leave-running")
	}
	began := time.Now()
	dump(testkit.Patience)
	took := time.Since(began)
	for i := range 2 * kills() {
		dump(took * time.Duration(i+1) / time.Duration(2*kills()))
		testkit.Unharmed(t, p.PID)
		noMapping(t, p.PID)
	}
	p.Go(t, 0, true)
	p.WaitExit(t, 0)
}
