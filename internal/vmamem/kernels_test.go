package vmamem

import (
	"testing"

	"glis.dev/glis/internal/bpf"
	"glis.dev/glis/internal/bpf/bpftest"
)

// What is looked at of mappings is where it is looked for, also in older kernels than the one
// that runs.
func TestKernels(t *testing.T) {
	for _, release := range bpftest.Kernels() {
		x, err := bpf.Parse(bpftest.Kernel(t, release))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := findLayout(x); err != nil {
			t.Errorf("Linux %s: %v", release, err)
		}
	}
}
