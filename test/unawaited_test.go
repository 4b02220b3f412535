package test

import (
	"testing"

	"glis.dev/glis/internal/testkit"
)

// Children of whom nothing is left when they end, since their parent ignores SIGCHLD, end
// while the tree is being frozen: they are none of it any more.
func TestUnawaited(t *testing.T) {
	e := glisOnly(t)
	testkit.NoLeaks(t)
	p := testkit.Start(t, testkit.NewDir(t), testkit.BuildC(t, "targets/unawaited.c", "-pthread"), ".")
	p.AwaitAt(t, 0)
	for range 10 {
		e.Save(t, p.PID, testkit.NewDir(t), "--leave-running")
	}
	testkit.Unharmed(t, p.PID)
	for range 2 {
		img := testkit.NewDir(t)
		e.Save(t, p.PID, img)
		e.Restore(t, img)
	}
	testkit.Unharmed(t, p.PID)
}
