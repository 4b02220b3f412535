package test

import (
	"os"
	"strings"
	"testing"

	"glis.dev/glis/internal/testkit"
)

// The demonstration checks itself: every message numbered, every word of
// memory.
func TestDemo(t *testing.T) {
	testkit.RequireRoot(t)
	e := glisOnly(t)
	all := [][]string{{"demo"}, {"demo", "--leave-running"}}
	if os.Getenv(soakEnv) != "" { // it takes half a minute where memory is slow
		all = append(all, []string{"demo", "--big"})
	}
	for _, args := range all {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			testkit.NoLeaks(t)
			r := e.Run(t, args...)
			if r.Code != 0 || !strings.Contains(r.Stdout, "unix socket pairs") {
				t.Errorf("exit status %d\n%s%s", r.Code, r.Stdout, r.Stderr)
			}
		})
	}
}
