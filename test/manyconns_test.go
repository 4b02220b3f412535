package test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"glis.dev/glis/internal/testkit"
)

// connectionsEnv is how many connections are in one dump; without it, few enough for
// every run.
const connectionsEnv = "GLIS_CONNECTIONS"

func connections() string {
	if n := os.Getenv(connectionsEnv); n != "" {
		return n
	}
	return "2000"
}

// inParts is how many children share the connections of targets/manyconns.c.
const inParts = 4

// grown waits until a file of each child is longer by so much.
func grown(t testing.TB, p *testkit.Proc, name string, by int64) {
	t.Helper()
	size := func(i int) int64 {
		st, err := os.Stat(filepath.Join(p.Dir, fmt.Sprintf("%s.%d", name, i)))
		if err != nil {
			return 0
		}
		return st.Size()
	}
	var from [inParts]int64
	for i := range from {
		from[i] = size(i)
	}
	for i := range from {
		testkit.Await(t, p.Dir, p.PID, name, func() bool { return size(i) >= from[i]+by })
	}
}

// Thousands of connections are in one dump, with no more descriptors than the hard
// limit allows anyone, and their clients don't notice, nor do they of a second one.
func TestManyConnections(t *testing.T) {
	many := connections()
	e := glisOnly(t)
	testkit.NoLeaks(t)
	program := testkit.BuildC(t, "targets/manyconns.c")
	p := testkit.Start(t, testkit.NewDir(t), program, many)
	port := p.Told(t, "port")
	clients := testkit.Start(t, testkit.NewDir(t), program, many, port)
	grown(t, clients, "rounds", 1)
	for range 2 {
		img := testkit.NewDir(t)
		e.Save(t, p.PID, img, established...)
		e.Restore(t, img, established...)
		testkit.Unharmed(t, p.PID)
		grown(t, clients, "rounds", 2)
	}
}
