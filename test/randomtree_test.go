package test

import (
	"strconv"
	"testing"

	"glis.dev/glis/internal/testkit"
)

// Random sequences of what processes and threads do with each other, with signals and with
// descriptors are dumped and restored in between: what /proc tells of all of them, and what
// they find, must be what it is without.
func TestRandomTree(t *testing.T) {
	kernelMemory(t)
	path := testkit.BuildC(t, "targets/treerandom.c")
	randomly(t, 0, func(seed int) testkit.Program {
		return testkit.Program{Argv: []string{path, strconv.Itoa(seed), strconv.Itoa(10 + seed*7%70)}}
	}, "--file-locks", "--link-remap")
}
