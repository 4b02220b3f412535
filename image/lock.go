package image

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// ErrLocked is a directory that another dump writes into.
var ErrLocked = errors.New("another dump is writing into it (or a program has locked it by flock): wait for its end, or name another directory")

// Lock has no other dump write into the directory until Unlock: one that fails
// removes all images, as there were none when it began. It is a flock(2) of the open
// directory: processes that inherit that hold it, too. On a file system that has no
// such locks (NFS has none of directories) nobody is kept out. The error may be
// ErrLocked.
func (d *Dir) Lock() error {
	err := d.flock(unix.LOCK_EX | unix.LOCK_NB)
	switch {
	case errors.Is(err, unix.EWOULDBLOCK):
		return fmt.Errorf("%v: %w", d, ErrLocked)
	case lockless(err):
		return nil
	}
	return err
}

// lockless tells whether an error of flock(2) says that there are no such locks.
func lockless(err error) bool {
	for _, e := range []error{unix.EBADF, unix.EINVAL, unix.ENOLCK, unix.ENOSYS, unix.EOPNOTSUPP} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// Unlock ends Lock for all that have the directory.
func (d *Dir) Unlock() error { return d.flock(unix.LOCK_UN) }

func (d *Dir) flock(how int) error {
	for {
		err := unix.Flock(int(d.f.Fd()), how)
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, unix.EINTR):
			return fmt.Errorf("%v: flock: %w", d, err)
		}
	}
}
