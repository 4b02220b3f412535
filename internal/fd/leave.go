package fd

import (
	"errors"

	"golang.org/x/sys/unix"
)

// Leave closes the descriptor without waiting for what the kernel does when a file is
// closed by the last who has it open. That is for files of which that takes long and means
// nothing to anybody: of a netlink socket through which nftables were removed it takes as
// long as packets might still see them, tens of milliseconds.
//
// A ring of io_uring keeps it for a moment (holdForAWhile): by then the kernel has done what
// it would wait for, while it lets nobody else change nftables. Where no ring can be made the
// file is sent to a socket that only itself knows of, which the kernel finds to be
// garbage (unix(7)) and closes from a thread of its own, since Linux 6.9; before, it is
// closed at once.
func (f *FD) Leave() error {
	if holdForAWhile(f.Int()) == nil {
		return f.Close()
	}
	return f.leaveAsGarbage()
}

func (f *FD) leaveAsGarbage() error {
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return f.Close()
	}
	_ = Send(p[0], []int{f.Int(), p[1]}) // if it fails, who closes waits
	// The garbage is looked for as p[0] is closed.
	return errors.Join(f.Close(), unix.Close(p[1]), unix.Close(p[0]))
}
