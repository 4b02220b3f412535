package image

import (
	"errors"
	"io"

	"golang.org/x/sys/unix"
)

// whole reads a short file in as few calls as there can be, three: a checkpoint
// has one for every connection. It returns the file's size, and its bytes if
// that is what they should be, in room if there is enough of it. It is Open, ReadAt
// and Close otherwise.
func (d *Dir) whole(name string, want int64, room []byte) (b []byte, size int64, err error) {
	if err := checkName(name); err != nil {
		return nil, 0, d.pathError("open", name, err)
	}
	fd, err := openat(int(d.f.Fd()), name, imageFlags|unix.O_RDONLY, 0)
	if err != nil {
		return nil, 0, d.pathError("open", name, linkError(err))
	}
	defer unix.Close(fd) //nolint:errcheck // only read from
	if b = room[:0]; int64(cap(b)) <= want {
		b = make([]byte, 0, want+1)
	}
	b = b[:want+1]
	n, failed := readUp(fd, b, int(want))
	if failed == nil && int64(n) == want {
		return b[:want], want, nil
	}
	if size, err = regular(fd); err != nil {
		return nil, 0, d.pathError("open", name, err)
	}
	switch {
	case failed != nil:
		return nil, size, &Error{File: name, Offset: int64(n), Err: d.pathError("read", name, failed)}
	case size == want: // it was when it was read
		return nil, size, &Error{File: name, Offset: int64(n), Err: io.ErrUnexpectedEOF}
	}
	return nil, size, nil
}

// readUp reads until b is full or the file ends. A read that stops at the byte where
// the file should end has found its end: it wanted one more.
func readUp(fd int, b []byte, end int) (n int, err error) {
	for n < len(b) && (n == 0 || n != end) {
		more, err := unix.Pread(fd, b[n:], int64(n))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if more <= 0 || err != nil {
			return n, err
		}
		n += more
	}
	return n, nil
}

// readError is what a file that ends early is told as: it was cut after its size
// was looked at.
func readError(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
