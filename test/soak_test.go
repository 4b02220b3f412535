package test

import (
	"os"
	"strconv"
	"testing"

	"glis.dev/glis/internal/testkit"
)

// soakEnv is how many generations TestSoak runs; without it, none.
const soakEnv = "GLIS_SOAK"

// A threaded C program, a Go one and a python one, again and again.
func TestSoak(t *testing.T) {
	n, _ := strconv.Atoi(os.Getenv(soakEnv))
	if n <= 0 {
		t.Skip("takes minutes: set " + soakEnv + "=100")
	}
	testkit.RequireRoot(t)
	e := testkit.FindEngine(t)
	for _, c := range counters[:3] {
		t.Run(c.name, func(t *testing.T) {
			t.Run("restored", func(t *testing.T) { c.generations(t, e, n, false) })
			t.Run("running", func(t *testing.T) { c.generations(t, e, n, true) })
		})
	}
}
