package bpftest

import (
	"embed"
	"testing"
)

//go:embed testdata/*.btf
var files embed.FS

// Kernels are those of which there are types, the oldest that Glis is for first.
func Kernels() []string { return []string{"6.1", "6.12"} }

// Kernel returns the types of another kernel than the one that runs: of Debian's for amd64,
// the structures that Glis looks at.
func Kernel(t testing.TB, release string) []byte {
	t.Helper()
	b, err := files.ReadFile("testdata/linux-" + release + ".btf")
	if err != nil {
		t.Fatal(err)
	}
	return b
}
