package file

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	pipedata "glis.dev/glis/image/criu/pipe-data"
	"glis.dev/glis/image/protowire"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/scan"
)

// pipeQueue is the data in a pipe. pieces are what it is made of, if there are
// packets in it; if not, it is plain.
type pipeQueue struct {
	data   []byte
	far    *image.Far // at a restore, in place of data, if it is in the image until it is needed
	pieces []pipePiece
}

// pipePiece is a packet, which one read takes, or plain data up to the next
// packet or the end. Both are in a pipe whose writer turned O_DIRECT on or off
// while data waited.
type pipePiece struct {
	n     uint32
	plain bool
}

// putPieces adds the lengths of the pieces to a pipe's entry: that of plain
// data comes after a zero, as no packet is empty.
func (q *pipeQueue) putPieces(e *pipedata.PipeDataEntry) {
	if q.pieces == nil {
		return
	}
	var b []byte
	for _, p := range q.pieces {
		if p.plain {
			b = append(b, 0)
		}
		b = protowire.AppendVarint(b, uint64(p.n))
	}
	putBytes(e, pipePackets, b)
}

// getPieces reads the pieces of a pipe with n bytes in it.
func getPieces(e *pipedata.PipeDataEntry, n int) ([]pipePiece, error) {
	_, b, ok := extra(e, pipePackets)
	if !ok {
		return nil, nil
	}
	var out []pipePiece
	for left := uint64(n); len(b) > 0; {
		most, plain := min(maxPacket, left), b[0] == 0
		if plain {
			most, b = min(maxPipeSize, left), b[1:]
		}
		v, size := protowire.ConsumeVarint(b)
		if size < 0 || v == 0 || v > most {
			return nil, fmt.Errorf("a packet of %d bytes where %d are left", v, left)
		}
		b, left, out = b[size:], left-v, append(out, pipePiece{uint32(v), plain})
		if len(b) == 0 && left > 0 {
			return nil, fmt.Errorf("its packets leave %d bytes over", left)
		}
	}
	return out, nil
}

// queue copies the data in a pipe of this size and leaves it where it is. d is
// one of its ends.
func (p *pipeEnds) queue(f *scan.File, d *fd.FD, size int) (*pipeQueue, error) {
	n, err := unix.IoctlGetInt(d.Int(), unix.TIOCINQ)
	if err != nil {
		return nil, fmt.Errorf("ask how much is in it: %w", err)
	}
	if n == 0 {
		return &pipeQueue{}, nil
	}
	r, err := p.reader(f)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return lookInto(r, n, size)
}

// reader returns a descriptor to look at the data with. If nobody can read the
// pipe any more, what is in it can still be reached through /proc.
func (p *pipeEnds) reader(f *scan.File) (*fd.FD, error) {
	if len(p.readers) > 0 {
		return p.readers[0].Borrow()
	}
	n, err := f.Task.Dir.Open(f.Path(), unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return nil, err
	}
	return fd.New(n), nil
}

// defaultPipeSize is what a new pipe holds, in bytes (PIPE_DEF_BUFFERS of
// linux/pipe_fs_i.h).
const defaultPipeSize = 16 * image.PageSize

// tee copies the n bytes in a pipe of this size into a new one, see tee(2),
// and returns that one's ends.
func tee(from *fd.FD, n, size int) (r, w *fd.FD, err error) {
	r, w, err = newPipe()
	if err != nil {
		return nil, nil, err
	}
	if size > defaultPipeSize {
		_, err = unix.FcntlInt(uintptr(w.Int()), unix.F_SETPIPE_SZ, size)
	}
	got := int64(0)
	if err == nil {
		got, err = unix.Tee(from.Int(), w.Int(), n, unix.SPLICE_F_NONBLOCK)
	}
	switch {
	case errors.Is(err, unix.EPERM):
		err = fmt.Errorf("make room for a copy of its %d bytes (needs CAP_SYS_RESOURCE, or a larger /proc/sys/fs/pipe-max-size): %w", size, err)
	case err != nil:
		err = fmt.Errorf("copy the %d bytes in it: %w", n, err)
	case got != int64(n):
		err = fmt.Errorf("copy the data in it: %d of %d bytes only", got, n)
	}
	if err != nil {
		return nil, nil, errors.Join(err, r.Close(), w.Close())
	}
	return r, w, nil
}

// newPipe makes a pipe of the engine's.
func newPipe() (r, w *fd.FD, err error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, nil, fmt.Errorf("make a pipe: %w", err)
	}
	return fd.New(p[0]), fd.New(p[1]), nil
}

var errShort = errors.New("there is less than the kernel said")
