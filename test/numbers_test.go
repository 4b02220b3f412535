package test

import (
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/testkit"
)

// A process that a restore makes for a moment, to leave tasks to one further above, gets no
// number that somebody else has, who notices nothing.
func TestNumbersInUse(t *testing.T) {
	e := glisOnly(t)
	p := testkit.Program{Argv: []string{testkit.BuildC(t, "targets/leftabove.c")}}
	testkit.Compared(t, p, func(t *testing.T, proc *testkit.Proc, n int) {
		tree := testkit.Tree(proc.PID)
		highest := slices.Max(tree)
		img := testkit.NewDir(t)
		e.Save(t, proc.PID, img)
		other := numbered(t, highest+1)
		defer other.Kill()
		e.Restore(t, img)
		if err := unix.Kill(other.PID, 0); err != nil {
			t.Errorf("process %d, whose number is the first that the restore may take: %v", other.PID, err)
		}
	})
}
