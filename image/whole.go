package image

import (
	"errors"
	"io"

	"golang.org/x/sys/unix"
)

// whole reads a short file in as few calls as there can be, four: a checkpoint
// has one for every connection. It returns the file's size, and its bytes if
// that is what they should be. It is Open, ReadAt and Close otherwise.
func (d *Dir) whole(name string, want int64) (b []byte, size int64, err error) {
	if err := checkName(name); err != nil {
		return nil, 0, d.pathError("open", name, err)
	}
	fd, err := openat(int(d.f.Fd()), name, imageFlags|unix.O_RDONLY, 0)
	if err != nil {
		return nil, 0, d.pathError("open", name, linkError(err))
	}
	defer unix.Close(fd) //nolint:errcheck // only read from
	if size, err = regular(fd); err != nil {
		return nil, 0, d.pathError("open", name, err)
	}
	if size != want {
		return nil, size, nil
	}
	b = make([]byte, size)
	return b, size, d.readAll(fd, name, b)
}

func (d *Dir) readAll(fd int, name string, b []byte) error {
	for n := 0; n < len(b); {
		more, err := unix.Pread(fd, b[n:], int64(n))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if more <= 0 || err != nil {
			if err != nil {
				err = d.pathError("read", name, err)
			}
			return &Error{File: name, Offset: int64(n), Err: readError(err)}
		}
		n += more
	}
	return nil
}

// readError is what a file that ends early is told as: it was cut after its size
// was looked at.
func readError(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
