// Package start is what a program does that ends as soon as it can, before anything
// of its own: where a page that is touched for the first time takes 25 µs, and a
// thread 200, a third of all that Glis does for a small process would be done before
// main.
//
// A program that imports it and is linked with
//
//	-ldflags=-E=glis_start
//
// begins at glis_start, ahead of the Go runtime: it begins
// on one CPU, and the memory that the Go runtime maps for its heap is in huge pages:
// the runtime is told to call a function of this package
// instead of mmap(2), the way it is told of a C library's. Its descriptor table has
// room, too. Linked otherwise it begins
// as any program, and the heap goes on in huge pages before the packages are made
// ready. Where there are none, all is as it would be without.
//
// All else is found by faults. To have it found at once (the program's instructions and
// variables, and the tables of the runtime) took longer than they do: of the 300 pages that
// can be written to 80 are used, and the kernel maps 16 of the others by one fault.
package start

// One is the environment variable GOMAXPROCS of a program that began on one CPU
// because of this package: nobody else writes the number like that. It is to be
// removed. If the user has set the variable, it is left alone.
const One = "01"

// Descriptors is how many the descriptor table has room for from the start, if the hard
// limit (RLIMIT_NOFILE) is not lower, each 8 bytes of the kernel's: fd.Plenty.
const Descriptors = 1 << 15
