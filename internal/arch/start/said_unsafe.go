//go:build amd64

package start

import "unsafe"

// threadFailed is how the Go runtime begins to say that it got no thread (newosproc of
// runtime/os_linux.go), upon which it says where all goroutines are.
const threadFailed = "runtime: failed to create new OS thread"

// saidOnce writes what the Go runtime says. Where that got no thread a line takes its place,
// and the program ends: no goroutine has to do with it.
//
//go:nosplit
func saidOnce(fd uintptr, p unsafe.Pointer, n int32) int32 {
	if n >= int32(len(threadFailed)) && unsafe.String((*byte)(p), len(threadFailed)) == threadFailed {
		end(noThread)
	}
	return write(fd, p, n)
}

// write is write(2). It returns a number of bytes or a negative errno.
//
//go:noescape
func write(fd uintptr, p unsafe.Pointer, n int32) int32

// end writes text to standard error and ends the program with 1.
//
//go:noescape
func end(text string)
