package test

import (
	"strings"
	"testing"

	"glis.dev/glis/internal/testkit"
)

// The demonstration checks itself: every message numbered, every word of
// memory.
func TestDemo(t *testing.T) {
	testkit.RequireRoot(t)
	e := glisOnly(t)
	for _, args := range [][]string{{"demo"}, {"demo", "--leave-running"}} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			testkit.NoLeaks(t)
			r := e.Run(t, args...)
			if r.Code != 0 || !strings.Contains(r.Stdout, "unix socket pairs") {
				t.Errorf("exit status %d\n%s%s", r.Code, r.Stdout, r.Stderr)
			}
		})
	}
}
