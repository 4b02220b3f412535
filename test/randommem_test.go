package test

import (
	"strconv"
	"testing"

	"glis.dev/glis/internal/testkit"
)

// Random sequences of calls that change memory, in tasks that fork and end meanwhile, are
// dumped and restored in between: what is mapped, which pages there are, what is in them and
// where a signal comes must be what it is without.
func TestRandomMemory(t *testing.T) {
	e := glisOnly(t)
	guards(t)
	path := testkit.BuildC(t, "targets/memrandom.c")
	from, to := seeds(t)
	for seed := from; seed <= to; seed++ {
		t.Run(strconv.Itoa(seed), func(t *testing.T) {
			p := testkit.Program{Argv: []string{path, strconv.Itoa(seed), strconv.Itoa(20 + seed%100)}, Generations: 3}
			testkit.Compared(t, p, func(t *testing.T, proc *testkit.Proc, n int) {
				saveRandom(t, e, proc, (seed+n)%3 == 0)
			})
		})
	}
}
