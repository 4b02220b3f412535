package bpf

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Drain reads an iterator to its end. take is given what has come, and returns
// how many bytes of it are the beginning of something that has not come whole.
func Drain(it int, take func(b []byte) (left int, err error)) error {
	return DrainInto(it, make([]byte, Room), take)
}

// Room is how much is read at once, in bytes: more than any record has.
const Room = 64 << 10

// DrainInto is Drain with room of its own.
func DrainInto(it int, buf []byte, take func(b []byte) (left int, err error)) error {
	have := 0
	for {
		n, err := unix.Read(it, buf[have:])
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read from a bpf iterator: %w", err)
		}
		if n == 0 {
			return nil
		}
		have += n
		left, err := take(buf[:have])
		if err != nil {
			return err
		}
		have = copy(buf, buf[have-left:have])
	}
}
