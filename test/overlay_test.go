package test

import (
	"testing"

	"glis.dev/glis/internal/testkit"
)

// TestOverlay: files of a lower layer of overlayfs that were deleted or replaced are
// carried over as deleted ones, though they tell that they have a name.
func TestOverlay(t *testing.T) {
	glis := glisOnly(t)
	dir := testkit.NewDir(t)
	there := handleless(t, dir)
	engine := within(t, glis, dir, there)
	testkit.RoundTrip(t, testkit.Engines{Saver: engine, Restorer: engine}, testkit.Program{
		Argv:     append(there, testkit.BuildC(t, "targets/overlaid.c")),
		DumpArgs: []string{"--ghost-limit", "16M"},
	})
}
