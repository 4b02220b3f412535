package linux

import (
	"encoding/binary"
	"fmt"

	"glis.dev/glis/internal/undo"
)

// SetsockoptInt sets an option of type int, see setsockopt(2). It must not be
// one that waits for anything.
func SetsockoptInt(fd, level, name, value int) error {
	var b [4]byte
	binary.NativeEndian.PutUint32(b[:], uint32(value))
	return Setsockopt(fd, level, name, b[:])
}

// SockOpt is an option of type int of some socket, and a value for it, see
// setsockopt(2).
type SockOpt struct {
	Level, Name int
	Value       int
}

// Set gives the socket fd that value.
func (o SockOpt) Set(fd int) error {
	if err := SetsockoptInt(fd, o.Level, o.Name, o.Value); err != nil {
		return fmt.Errorf("set option %d of level %d to %d: %w", o.Name, o.Level, o.Value, err)
	}
	return nil
}

// SetBack is Set for an option that a target had and must have again: a failure
// that passes is not to leave it without.
func (o SockOpt) SetBack(fd int) error { return undo.Again(func() error { return o.Set(fd) }) }
