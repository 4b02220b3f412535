package test

import (
	"strings"
	"testing"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/inventory"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/testkit"
)

// Images of a version to come are refused by whatever takes them in, with a word that
// says so.
func TestTooNew(t *testing.T) {
	e := glisOnly(t)
	dir := testkit.NewDir(t)
	s, err := image.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	newer := uint32(image.Version11 + 1)
	if err := image.WriteOne(s, image.Inventory, &inventory.InventoryEntry{ImgVersion: &newer, FdinfoPerId: proto.Bool(true), DumpCriuRunId: proto.String("run")}); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"restore", "-d", "-D", dir}, {"inspect", dir}, {"lock", dir}, {"unlock", dir}} {
		r := e.Run(t, args...)
		if r.Code == 0 || !strings.Contains(r.Stderr, "too new") {
			t.Errorf("%s: exit status %d, %q%q", args[0], r.Code, r.Stdout, r.Stderr)
		}
	}
}
