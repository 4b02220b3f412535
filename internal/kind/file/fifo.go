package file

import (
	"context"
	"errors"
	"strings"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/criu/fifo"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/scan"
)

// Fifo is fifo(7): a pipe with a path. The path, with flags and owner, is an
// entry of the Regular kind.
type Fifo struct {
	fifos pipeIndex           // of a dump
	sets  map[uint32]*fifoSet // of a restore, by pipe_id
	plan  *plan.Plan
}

// Type implements kind.File.
func (*Fifo) Type() fdinfo.FdTypes { return fdinfo.FdTypes_FIFO }

// Match implements kind.File.
func (*Fifo) Match(f *scan.File) bool {
	return f.Stat.Mode&unix.S_IFMT == unix.S_IFIFO && strings.HasPrefix(f.Link, "/") && f.Flags&unix.O_PATH == 0 && (len(f.Users) > 0 || f.Within != nil)
}

// Dump implements kind.File.
func (k *Fifo) Dump(_ context.Context, env *kind.DumpEnv, f *scan.File) (*fdinfo.FileEntry, error) {
	p, err := k.fifos.find(env.Tree, f, k.Match)
	if err != nil {
		return nil, err
	}
	d, err := f.Borrow()
	if err != nil {
		return nil, err
	}
	defer d.Close()
	unwritten, err := p.completeFifo(f, d)
	if err != nil {
		return nil, err
	}
	if !p.dumped {
		p.dumped = true
		e, q, err := p.contents(f, d)
		if err != nil {
			return nil, err
		}
		if err := env.Images.Put(image.FifoData, e, q.data); err != nil {
			return nil, err
		}
	}
	path := *f
	path.Users, path.Within, path.Told = nil, nil, nil // its locks are not those of its path
	env.Files.Named(&path)
	e := &fifo.FifoEntry{Id: proto.Uint32(f.ID), PipeId: proto.Uint32(uint32(f.Stat.Ino)), RegfId: proto.Uint32(path.ID)}
	if unwritten {
		putVarint(e, fifoUnwritten, 1)
	}
	return &fdinfo.FileEntry{Fifo: e}, nil
}

// completeFifo is complete for a FIFO. A reader that has never had a writer is
// not told that there is none, so it looks like one with a writer elsewhere;
// a look at the data, if there is none, tells them apart: see tee(2).
func (p *pipeEnds) completeFifo(f *scan.File, d *fd.FD) (unwritten bool, err error) {
	outside := p.complete(f, d)
	if outside == nil || len(p.writers) > 0 || !errors.Is(outside, kind.ErrUnsupported) {
		return false, outside
	}
	n, err := f.Task.Dir.Open(f.Path(), unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return false, err
	}
	own := fd.New(n)
	defer own.Close()
	r, w, err := newPipe()
	if err != nil {
		return false, err
	}
	defer r.Close()
	defer w.Close()
	if got, err := unix.Tee(own.Int(), w.Int(), 1, unix.SPLICE_F_NONBLOCK); err != nil || got != 0 {
		return false, outside
	}
	return true, nil
}
