package main

import (
	"os"
	"path/filepath"
	"testing"
)

// What was generated is what would be generated now, and nothing else is there.
func TestUpToDate(t *testing.T) {
	const root = "../../../"
	b, err := os.ReadFile(root + "image/proto/testdata/extra.binpb")
	if err != nil {
		t.Fatal(err)
	}
	extra, err := extraSchemas(b)
	if err != nil {
		t.Fatal(err)
	}
	want, err := generate(append(criuFiles(), extra...))
	if err != nil {
		t.Fatal(err)
	}
	if len(want) < 70 {
		t.Errorf("only %d files", len(want))
	}
	for name, text := range want {
		if got, err := os.ReadFile(root + name); err != nil || string(got) != text {
			t.Errorf("%s is not what its schema says (%v): go run ./image/proto/gen", name, err)
		}
	}
	for _, dir := range []string{criuDir + "*/", extraDir} {
		names, err := filepath.Glob(root + dir + "*.pb.go")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if rel, _ := filepath.Rel(root, name); want[rel] == "" {
				t.Errorf("%s has no schema any more", rel)
			}
		}
	}
}
