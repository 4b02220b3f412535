package taskmem

import (
	"slices"
	"testing"

	"glis.dev/glis/internal/bpf"
	"glis.dev/glis/internal/bpf/bpftest"
)

// lacking are what other kernels than the one that runs have no word for; they have
// nothing of the kind.
var lacking = map[string][]string{
	"6.1":  {"slice", "uclamp_req", "core_cookie", "features"},
	"6.12": {"uclamp_req", "core_cookie"},
}

// What is looked at of threads is where it is looked for, also in older kernels than the one
// that runs.
func TestKernels(t *testing.T) {
	for _, release := range bpftest.Kernels() {
		x, err := bpf.Parse(bpftest.Kernel(t, release))
		if err != nil {
			t.Fatal(err)
		}
		f, err := newFinder(x)
		if err != nil || f.function == 0 {
			t.Fatalf("Linux %s: no iterator over threads (%v)", release, err)
		}
		var lacks []string
		for _, w := range slices.Concat(shared[:], special[:], plain[:], own[:]) {
			if w.lacks != nil { // which asks the kernel that runs
				w.lacks = always
			}
			p, err := f.piece(w)
			if err != nil {
				t.Errorf("Linux %s: %v", release, err)
			}
			if p.at < 0 {
				lacks = append(lacks, w.member)
			}
		}
		if !slices.Equal(lacks, lacking[release]) {
			t.Errorf("Linux %s has no word for %v, only %v are known to be lacking", release, lacks, lacking[release])
		}
		for _, n := range []string{"children", "cpus_mask"} {
			if f.member("task_struct", n) < 0 {
				t.Errorf("Linux %s: no %s", release, n)
			}
		}
	}
}
