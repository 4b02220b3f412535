// Package linux holds the kernel's interface where golang.org/x/sys/unix lacks
// it: constants in kernel spelling, struct layouts and thin typed calls, one
// file per uapi header. It decides nothing.
package linux
