// Package early has the Go heap begin with a huge page, before anything else in the
// program is made ready. It is for a program that ends as soon as it can: where a page
// that is touched for the first time takes 25 µs, more than a hundred of them are a
// tenth of all that Glis does for a small process. Where there are no huge pages, all
// is as it would be without.
package early

import (
	"syscall"
	"unsafe"
)

// init is the only one in Glis. What is imported by few others is made ready early, in
// the order of names, and main begins when half of the pages have been touched.
func init() { _ = collapse() }

const (
	huge         = 2 << 20
	madvCollapse = 25 // MADV_COLLAPSE, include/uapi/asm-generic/mman-common.h, Linux 6.1
)

// collapse makes the memory around a new object one huge page. The Go runtime has
// mapped 4 MiB, of which it gives out the first part first.
func collapse() error {
	p := uintptr(unsafe.Pointer(new([64]byte))) &^ (huge - 1)
	if _, _, e := syscall.RawSyscall(syscall.SYS_MADVISE, p, huge, madvCollapse); e != 0 {
		return e
	}
	return nil
}
