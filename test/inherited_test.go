package test

import (
	"os"
	"path/filepath"
	"testing"

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
