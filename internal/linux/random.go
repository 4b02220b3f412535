package linux

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Random fills b by getrandom(2). What crypto/rand does besides takes half a
// millisecond of every start of the program.
func Random(b []byte) error {
	for len(b) > 0 {
		n, err := unix.Getrandom(b, 0)
		if err != nil && err != unix.EINTR {
			return fmt.Errorf("getrandom: %w", err)
		}
		b = b[max(n, 0):]
	}
	return nil
}
