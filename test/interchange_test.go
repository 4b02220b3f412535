package test

import (
	"os/exec"
	"testing"

	"glis.dev/glis/internal/testkit"
)

// What one engine dumped, the other restores: both ways over all targets.
func TestInterchange(t *testing.T) {
	path, err := exec.LookPath("criu")
	if err != nil {
		t.Skip("no criu in PATH")
	}
	testkit.RequireRoot(t)
	criu, glis := testkit.NewEngine(t, path), testkit.FindEngine(t)
	if criu.Glis || !glis.Glis {
		t.Skip("needs CRIU as criu in PATH and Glis as the engine")
	}
	ways := []struct {
		name string
		e    testkit.Engines
	}{
		{"from criu", testkit.Engines{Saver: criu, Restorer: glis}},
		{"to criu", testkit.Engines{Saver: glis, Restorer: criu}},
	}
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			for _, x := range targets {
				t.Run(x.name, func(t *testing.T) {
					if x.noCRIU != "" {
						t.Skip("CRIU cannot: " + x.noCRIU)
					}
					if x.noCRIUDump != "" && !way.e.Saver.Glis {
						t.Skip("CRIU cannot dump it: " + x.noCRIUDump)
					}
					if x.noCRIUBack != "" && !way.e.Restorer.Glis {
						t.Skip("CRIU cannot restore it: " + x.noCRIUBack)
					}
					testkit.Restored(t, way.e, x.program(t))
				})
			}
		})
	}
}
