package linux

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/undo"
)

// SetsockoptInt sets an option of type int, see setsockopt(2). It must not be
// one that waits for anything.
func SetsockoptInt(fd, level, name, value int) error {
	var b [4]byte
	binary.NativeEndian.PutUint32(b[:], uint32(value))
	return Setsockopt(fd, level, name, b[:])
}

// LevelIoctl is the level of what is no option, but set by an ioctl(2) of that
// number whose argument is the value.
const LevelIoctl = -1

// SockOpt is an option of type int of some socket, and a value for it, see
// setsockopt(2).
type SockOpt struct {
	Level, Name int
	Value       int
}

// Set gives the socket fd that value.
func (o SockOpt) Set(fd int) error {
	if o.Level == LevelIoctl {
		if err := unix.IoctlSetInt(fd, uint(uint32(o.Name)), o.Value); err != nil {
			return fmt.Errorf("ioctl %#x with %d: %w", uint32(o.Name), o.Value, err)
		}
		return nil
	}
	if err := SetsockoptInt(fd, o.Level, o.Name, o.Value); err != nil {
		return fmt.Errorf("set option %d of level %d to %d: %w", o.Name, o.Level, o.Value, err)
	}
	return nil
}

// SetBack is Set for an option that a target had and must have again: a failure
// that passes is not to leave it without.
func (o SockOpt) SetBack(fd int) error { return undo.Again(func() error { return o.Set(fd) }) }
