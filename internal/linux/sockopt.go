package linux

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// SockOpt is an option of type int of some socket, and a value for it, see
// setsockopt(2).
type SockOpt struct {
	Level, Name int
	Value       int
}

// Set gives the socket fd that value.
func (o SockOpt) Set(fd int) error {
	if err := unix.SetsockoptInt(fd, o.Level, o.Name, o.Value); err != nil {
		return fmt.Errorf("set option %d of level %d to %d: %w", o.Name, o.Level, o.Value, err)
	}
	return nil
}
