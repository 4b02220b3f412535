package file

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/internal/fd"
)

// The kernel has a pipe's data in buffers, each a packet or plain
// (PIPE_BUF_FLAG_PACKET of linux/pipe_fs_i.h), and tells neither their lengths
// nor which is which. But a read ends after a packet, and takes what comes
// after plain data along; and tee(2) copies a buffer with the flag. So what is
// in doubt is looked at in a copy with one more byte written behind it.

// lookInto copies the n bytes in a pipe of this size.
func lookInto(r *fd.FD, n, size int) (*pipeQueue, error) {
	if data, err := plainData(r, n, size); data != nil || err != nil {
		return &pipeQueue{data: data}, err
	}
	return piecesOf(r, n, size)
}

// plainData returns the n bytes in a pipe of this size, or nil if there is a
// packet among them.
func plainData(from *fd.FD, n, size int) ([]byte, error) {
	r, w, err := tee(from, n, size)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	defer w.Close()
	data := make([]byte, n+1)
	begun := 0
	got, err := another(r, w, data)
	if errors.Is(err, unix.EAGAIN) { // it is full: the first buffer makes room
		if begun, err = firstPlain(r, data[:n]); err != nil || begun == 0 {
			return nil, err
		}
		got, err = another(r, w, data[begun:])
	}
	if err != nil || begun+got <= n {
		return nil, err
	}
	return data[:n:n], nil
}

// firstPlain reads the first buffer of a copy that holds as much as b, if it
// is plain.
func firstPlain(r *fd.FD, b []byte) (int, error) {
	l, err := newLens()
	if err != nil {
		return 0, err
	}
	defer l.close()
	p, err := l.first(r, len(b))
	if err != nil || !p.plain {
		return 0, err
	}
	return readPipe(r, b[:p.n])
}

// another writes one more byte into a copy and reads into all of b.
func another(r, w *fd.FD, b []byte) (int, error) {
	if _, err := unix.Write(w.Int(), []byte{0}); err != nil {
		return 0, fmt.Errorf("write to the copy of its data: %w", err)
	}
	return readPipe(r, b)
}

// readPipe reads from a copy of the engine's, which has something in it.
func readPipe(r *fd.FD, b []byte) (int, error) {
	for {
		n, err := unix.Read(r.Int(), b)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil || n == 0:
			return 0, fmt.Errorf("read the copy of its data: %w", errors.Join(err, errShort))
		default:
			return n, nil
		}
	}
}

// piecesOf reads the n bytes in a pipe of this size, buffer by buffer.
func piecesOf(from *fd.FD, n, size int) (*pipeQueue, error) {
	r, w, err := tee(from, n, size)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	defer w.Close()
	l, err := newLens()
	if err != nil {
		return nil, err
	}
	defer l.close()
	q := &pipeQueue{data: make([]byte, 0, n)}
	for len(q.data) < n {
		p, err := l.first(r, n-len(q.data))
		if err != nil {
			return nil, err
		}
		at := len(q.data)
		got, err := readPipe(r, q.data[at:at+int(p.n)])
		if err != nil {
			return nil, err
		}
		if got != int(p.n) {
			return nil, fmt.Errorf("read the copy of its data: %d of %d bytes of a piece: %w", got, p.n, errShort)
		}
		q.data = q.data[:at+got]
		q.add(p)
	}
	return q, nil
}

// add adds a piece; plain data that follows plain data is one with it.
func (q *pipeQueue) add(p pipePiece) {
	if i := len(q.pieces) - 1; i >= 0 && p.plain && q.pieces[i].plain {
		q.pieces[i].n += p.n
		return
	}
	q.pieces = append(q.pieces, p)
}

// lens is a pipe of two buffers to look at one of another pipe in. It is empty
// in between.
type lens struct{ r, w *fd.FD }

func newLens() (*lens, error) {
	r, w, err := newPipe()
	if err != nil {
		return nil, err
	}
	if _, err := unix.FcntlInt(uintptr(w.Int()), unix.F_SETPIPE_SZ, 2*image.PageSize); err != nil {
		return nil, errors.Join(fmt.Errorf("let a copy of its data hold two pages: %w", err), r.Close(), w.Close())
	}
	return &lens{r, w}, nil
}

func (l *lens) close() {
	l.r.Close()
	l.w.Close()
}

// first tells of the first buffer of a pipe with n bytes in it, and leaves it
// there.
func (l *lens) first(from *fd.FD, n int) (pipePiece, error) {
	m, err := l.tee(from, n)
	if err != nil {
		return pipePiece{}, err
	}
	b := make([]byte, m+1)
	got, err := another(l.r, l.w, b)
	if err == nil && got <= m {
		_, err = readPipe(l.r, b[:1])
	}
	return pipePiece{n: uint32(m), plain: got > m}, err
}

// tee copies the first buffer of a pipe with n bytes in it, alone: there is
// room for two, and one is taken meanwhile.
func (l *lens) tee(from *fd.FD, n int) (int, error) {
	if _, err := unix.Write(l.w.Int(), []byte{0}); err != nil {
		return 0, fmt.Errorf("write to the copy of its data: %w", err)
	}
	m, err := unix.Tee(from.Int(), l.w.Int(), n, unix.SPLICE_F_NONBLOCK)
	if err != nil || m < 1 {
		return 0, fmt.Errorf("copy a piece of it: %w", errors.Join(err, errShort))
	}
	_, err = readPipe(l.r, make([]byte, 1))
	return int(m), err
}

// teeAll copies the n bytes in a pipe to the end of another one.
func teeAll(from, to *fd.FD, n int) error {
	got, err := unix.Tee(from.Int(), to.Int(), n, unix.SPLICE_F_NONBLOCK)
	if err == nil && got < int64(n) {
		err = unix.EAGAIN
	}
	if err != nil {
		return fmt.Errorf("put its data back, %d of %d bytes: %w", got, n, err)
	}
	return nil
}
