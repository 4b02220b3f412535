package fd

import (
	"golang.org/x/sys/unix"
)

// Plenty is how many descriptors most dumps and restores do with.
const Plenty = 1 << 15

// MakeRoom has the descriptor table of this process make room for n, as far as
// RLIMIT_NOFILE allows, while others go on: where there are threads, the kernel waits
// each time that the table doubles until no CPU can have the old one (RCU), up to tens of
// milliseconds, and so does who opened the descriptor. glis has done it before there were
// threads, see package start: then this finds nothing to do.
func MakeRoom(n int) { go makeRoom(n) }

func makeRoom(n int) {
	var l unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &l) != nil || l.Cur == 0 {
		return // it grows as it is needed
	}
	one, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		return
	}
	last, err := unix.FcntlInt(uintptr(one), unix.F_DUPFD_CLOEXEC, int(min(uint64(n), l.Cur))-1)
	if err == nil {
		_ = unix.Close(last)
	}
	_ = unix.Close(one)
}
