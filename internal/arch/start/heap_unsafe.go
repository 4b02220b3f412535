package start

import "unsafe"

// init is the only one in Glis. It asks for nothing but memory, and imports nothing,
// so that it comes before those of other packages.
func init() {
	if toAdvise == 0 {
		_ = makeRoom(frontier())
	}
}

const (
	huge    = 2 << 20
	chunk   = 4 << 20 // what the Go runtime maps at once, at a multiple of that
	handful = 1 << 19 // what a CPU of it takes for itself, at a multiple of that

	madvHugepage      = 14 // MADV_HUGEPAGE, include/uapi/asm-generic/mman-common.h
	madvPopulateWrite = 23 // MADV_POPULATE_WRITE, Linux 5.14
	madvCollapse      = 25 // MADV_COLLAPSE, Linux 6.1

	few = 1 << 17 // bytes that are found page by page in less time than it takes to collapse a huge page
)

// frontier is about where the Go runtime is going to give out memory: in order of
// addresses, from a place in the first chunk that it chooses at random.
func frontier() uintptr { return uintptr(unsafe.Pointer(new([64]byte))) }

// makeRoom has more than 2 MiB that the Go runtime gives out next be in huge pages:
// that is what a dump or a restore of a small process takes. p is the frontier. It
// returns what the last madvise(2) does: 0, or a negative errno.
func makeRoom(p uintptr) int {
	page := p &^ (huge - 1)
	next := page + huge
	if next%chunk == 0 { // the last page of the chunk: the next one may be anywhere in time
		at := p &^ (4<<10 - 1)
		madvise(at, (p|(handful-1))+1-at, madvPopulateWrite)
		_ = skip(next - p)
		return madvise(next, chunk, madvHugepage)
	}
	if next-p > few {
		madvise(page, huge, madvCollapse)
	}
	return madvise(next, huge, madvHugepage)
}

// skip has the Go runtime map the next chunk, and go on there. What it returns is
// memory that nobody has touched.
//
//go:noinline
func skip(left uintptr) []byte { return make([]byte, left) }
