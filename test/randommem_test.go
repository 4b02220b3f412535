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
	guards(t)
	path := testkit.BuildC(t, "targets/memrandom.c")
	randomly(t, 0, func(seed int) testkit.Program {
		return testkit.Program{Argv: []string{path, strconv.Itoa(seed), strconv.Itoa(20 + seed%100)}}
	})
}
