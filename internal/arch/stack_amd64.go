package arch

import "golang.org/x/sys/unix"

// deep needs a frame of nearly 32 MiB, and gives the kernel advice about it.
func deep(advice int)

// GrowHeap has the Go runtime map 32 MiB that it gives out from then on, in huge
// pages. They are the stack of a goroutine that ends: as such, and only as such,
// they are free without that garbage is collected, which takes 10 ms in a program
// that has hardly begun.
func GrowHeap() {
	done := make(chan struct{})
	go func() {
		defer close(done)
		deep(unix.MADV_HUGEPAGE) // madvise(2); a failure costs time only
	}()
	<-done
}
