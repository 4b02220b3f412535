// Package warm finds memory before it is needed. A page that a program touches
// for the first time costs it a fault: 1 µs, and 10 to 30 in many virtual
// machines. Many pages at once cost a tenth of that. Where nothing can be found
// all goes on as it would without.
package warm

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Heap has the kernel find the next bytes that the Go runtime is going to give
// out, about n. It gives them out in order of addresses until something was
// collected.
func Heap(n int) { next(n) }

// Touch is Heap, and it looks at the first few bytes of what it found: a
// hypervisor may have tables of its own, and fills them in when that is done.
func Touch(n, few int) {
	p, found := next(n)
	if !found {
		return
	}
	sum := byte(0)
	for at := 0; at < min(n, few); at += os.Getpagesize() {
		sum += *(*byte)(unsafe.Add(p, at)) // nobody's, and only read
	}
	_ = sum
}

// large is a size, in bytes, that the runtime takes from the heap alone. For
// smaller objects it has found memory already.
const large = 40 << 10

// chunk is how much the Go runtime maps for its heap at once, in bytes, at a multiple of
// that.
const chunk = 4 << 20

// next finds n bytes behind those that were given out last. They are mapped if
// found is true. Where a chunk ends that is with n bytes of the next one, as
// the runtime maps it only when something doesn't fit.
func next(n int) (p unsafe.Pointer, found bool) {
	p = unsafe.Pointer(unsafe.SliceData(make([]byte, large)))
	if populate(uintptr(p), uintptr(n)) {
		return p, true
	}
	if left := chunk - uintptr(p)%chunk; left < uintptr(n) && left > large {
		_ = skip(left - large)
		p = unsafe.Pointer(unsafe.SliceData(make([]byte, large)))
	}
	return p, populate(uintptr(p), uintptr(n))
}

// skip has the runtime give out memory that nobody touches.
//
//go:noinline
func skip(n uintptr) []byte { return make([]byte, n) }

// Written has memory be found that the kernel is going to write into: b, whose
// contents stay as they are.
func Written(b []byte) {
	if len(b) == 0 {
		return
	}
	p := uintptr(unsafe.Pointer(unsafe.SliceData(b)))
	populate(p, uintptr(len(b)))
	local := []unix.Iovec{{Base: &b[0]}}
	local[0].SetLen(len(b))
	// Onto itself. The kernel may have tables of its own for what it writes.
	_, _ = unix.ProcessVMReadv(os.Getpid(), local, []unix.RemoteIovec{{Base: p, Len: len(b)}}, 0)
}

// huge is the size, in bytes, of the pages that one entry of a page's directory
// stands for. Where they have another size, memory is only mapped in small ones.
const huge = 2 << 20

// Map returns n bytes of memory that was found, in huge pages if it fills a good
// part of one: they cost one fault each, on whichever side of the system call.
// free gives it back.
func Map(n int) (b []byte, free func() error, err error) {
	room := n
	if n >= huge/4 {
		room = (n+huge-1)&^(huge-1) + huge
	}
	all, err := unix.Mmap(-1, 0, room, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, nil, fmt.Errorf("mmap: %w", err)
	}
	free = func() error { return unix.Munmap(all) }
	if room == n {
		Written(all)
		return all, free, nil
	}
	p := uintptr(unsafe.Pointer(unsafe.SliceData(all)))
	whole := all[(p+huge-1)&^(huge-1)-p:]
	_ = unix.Madvise(whole[:room-huge], unix.MADV_HUGEPAGE) // only spares time
	b = whole[:n:n]
	Written(b)
	return b, free, nil
}

// populate finds the pages of n bytes at p. Linux 5.14.
func populate(p, n uintptr) bool {
	start := p &^ (uintptr(os.Getpagesize()) - 1)
	_, _, e := unix.RawSyscall(unix.SYS_MADVISE, start, p+n-start, unix.MADV_POPULATE_WRITE)
	return e == 0
}
