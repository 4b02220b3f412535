package test

import (
	"testing"

	"glis.dev/glis/internal/testkit"
)

// A process of which a thread executes a program while it is frozen, so that the others
// end and the first is another one, is dumped as it is then, and goes on.
func TestExecutes(t *testing.T) {
	e := glisOnly(t)
	testkit.NoLeaks(t)
	p := testkit.Start(t, testkit.NewDir(t), testkit.BuildC(t, "targets/executes.c", "-pthread"), ".")
	p.AwaitAt(t, 0)
	for range 50 {
		e.Save(t, p.PID, t.TempDir(), "--leave-running")
	}
	testkit.Unharmed(t, p.PID)
}
