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

// pipeQueue is the data in a pipe. packets are the lengths of its pieces if
// it has any.
type pipeQueue struct {
	data    []byte
	far     *image.Far // at a restore, in place of data, if it is in the image until it is needed
	packets []uint32
}

// putPackets adds the lengths of the packets to a pipe's entry.
func (q *pipeQueue) putPackets(e *pipedata.PipeDataEntry) {
	if q.packets == nil {
		return
	}
	var b []byte
	for _, n := range q.packets {
		b = protowire.AppendVarint(b, uint64(n))
	}
	putBytes(e, pipePackets, b)
}

// getPackets reads the lengths of the packets of a pipe with n bytes in it.
func getPackets(e *pipedata.PipeDataEntry, n int) ([]uint32, error) {
	_, b, ok := extra(e, pipePackets)
	if !ok {
		return nil, nil
	}
	var out []uint32
	for left := uint64(n); len(b) > 0; {
		v, size := protowire.ConsumeVarint(b)
		if size < 0 || v == 0 || v > min(maxPacket, left) {
			return nil, fmt.Errorf("a packet of %d bytes where %d are left", v, left)
		}
		b, left, out = b[size:], left-v, append(out, uint32(v))
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
	copied, err := tee(r, n, size)
	if err != nil {
		return nil, err
	}
	defer copied.Close()
	return drain(copied, n, p.packets())
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

// packets tells whether what is written now becomes packets (O_DIRECT).
func (p *pipeEnds) packets() bool {
	for _, w := range p.writers {
		if w.Flags&unix.O_DIRECT != 0 {
			return true
		}
	}
	return false
}

// defaultPipeSize is what a new pipe holds, in bytes (PIPE_DEF_BUFFERS of
// linux/pipe_fs_i.h).
const defaultPipeSize = 16 * image.PageSize

// tee copies the n bytes in a pipe of this size into a new one, see tee(2),
// and returns that one's end for reading.
func tee(from *fd.FD, n, size int) (*fd.FD, error) {
	r, w, err := newPipe()
	if err != nil {
		return nil, err
	}
	defer w.Close()
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
		r.Close()
		return nil, err
	}
	return r, nil
}

// newPipe makes a pipe of the engine's.
func newPipe() (r, w *fd.FD, err error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, nil, fmt.Errorf("make a pipe: %w", err)
	}
	return fd.New(p[0]), fd.New(p[1]), nil
}

// drain reads the n bytes in a pipe. A read ends where a packet ends; if all
// comes in one, there are no packets unless the caller knows better.
func drain(r *fd.FD, n int, packets bool) (*pipeQueue, error) {
	q := &pipeQueue{data: make([]byte, 0, n)}
	for len(q.data) < n {
		got, err := unix.Read(r.Int(), q.data[len(q.data):n])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || got == 0 {
			return nil, fmt.Errorf("read the copy of its data: %d of %d bytes, then: %w", len(q.data), n, errors.Join(err, errShort))
		}
		q.packets = append(q.packets, uint32(got))
		q.data = q.data[:len(q.data)+got]
	}
	if len(q.packets) == 1 && !packets {
		q.packets = nil
	}
	return q, nil
}

var errShort = errors.New("there is less than the kernel said")
