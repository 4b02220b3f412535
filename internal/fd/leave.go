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
// The file is sent to a socket that then only itself knows of, which the kernel finds to be
// garbage (unix(7)) and closes from a thread of its own, since Linux 6.9; before, it is
// closed at once. And a ring of io_uring has those sockets for a moment (holdForAWhile), where one
// can be made: by then the kernel has done what it would wait for, while it lets nobody
// else change nftables.
func (f *FD) Leave() error { return f.leave(holdForAWhile) }

func (f *FD) leave(hold func([2]int) error) error {
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return f.Close()
	}
	if Send(p[0], []int{f.Int(), p[1]}) == nil { // if it fails, who closes waits
		_ = hold(p)
	}
	// The garbage is looked for as p[0] is closed.
	return errors.Join(f.Close(), unix.Close(p[1]), unix.Close(p[0]))
}
