package start

import "unsafe"

// init is the only one in Glis. It asks for nothing but memory, and imports nothing,
// so that it comes before those of other packages.
func init() { _ = collapse() }

const (
	huge         = 2 << 20
	madvCollapse = 25 // MADV_COLLAPSE, include/uapi/asm-generic/mman-common.h, Linux 6.1
)

// collapse makes the memory around a new object one huge page, and returns what
// madvise(2) does: 0, or a negative errno. The Go runtime has mapped 4 MiB, of which
// it gives out the first part first.
func collapse() int {
	p := uintptr(unsafe.Pointer(new([64]byte))) &^ (huge - 1)
	return madvise(p, huge, madvCollapse)
}
