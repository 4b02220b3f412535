package mem

import (
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/hugepages"
	"glis.dev/glis/internal/pages"
)

// TestWantHuge: what a child inherits from its parent is not counted again, since
// they share it.
func TestWantHuge(t *testing.T) {
	const size = 1 << 30 // more than any test machine has free in all of these
	all := func(n uint64) *Space {
		return &Space{areas: []area{{
			Span: pages.Span{Start: size, End: (1 + n) * size}, status: statusRegular | statusAnonPrivate,
			flags: unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_HUGETLB | hugepages.Flag(size),
		}}}
	}
	parent, child := all(1<<20), all(1<<20)
	if a := &parent.areas[0]; a.unit() != size || !parent.overlaps(a) {
		t.Fatalf("its pages have %d bytes", a.unit())
	}
	var w hugepages.Wanted
	child.WantHuge(&w, parent)
	if err := w.Check(); err != nil {
		t.Errorf("what is inherited is counted: %v", err)
	}
	child.areas[0].flags |= unix.MAP_NORESERVE
	child.WantHuge(&w, nil)
	if err := w.Check(); err != nil {
		t.Errorf("what is neither reserved nor stored is counted: %v", err)
	}
}
