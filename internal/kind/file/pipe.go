package file

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/criu/pipe"
	pipedata "glis.dev/glis/image/criu/pipe-data"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/scan"
)

// Pipe is pipe(2). Several file descriptions may belong to one pipe: its two
// ends, and whatever was opened through /proc/PID/fd.
type Pipe struct {
	pipes pipeIndex           // of a dump
	sets  map[uint32]*pipeSet // of a restore, by pipe_id
	paths []*pipePath         // of a restore
}

// pipeIndex finds the pipes, or FIFOs, of a tree.
type pipeIndex struct {
	ends map[inodeKey]*pipeEnds
	seen int // files of the tree that are in ends, if they belong there
}

// pipeEnds is a pipe and the files of the tree that belong to it.
type pipeEnds struct {
	readers, writers []*scan.File
	dumped           bool
}

// Type implements kind.File.
func (*Pipe) Type() fdinfo.FdTypes { return fdinfo.FdTypes_PIPE }

// Match implements kind.File.
func (*Pipe) Match(f *scan.File) bool {
	return f.Stat.Mode&unix.S_IFMT == unix.S_IFIFO && strings.HasPrefix(f.Link, "pipe:[")
}

// Dump implements kind.File.
func (k *Pipe) Dump(_ context.Context, env *kind.DumpEnv, f *scan.File) (*fdinfo.FileEntry, error) {
	if f.Flags&unix.O_PATH != 0 {
		return k.dumpPath(env, f)
	}
	d, err := f.Borrow()
	if err != nil {
		return nil, err
	}
	defer d.Close()
	own, err := readOwner(env, f, d)
	if err != nil {
		return nil, err
	}
	p, err := k.pipes.find(env.Tree, f, k.Match)
	if err != nil {
		return nil, err
	}
	if !p.dumped {
		p.dumped = true
		if err := p.dump(env, f, d); err != nil {
			return nil, err
		}
	}
	return &fdinfo.FileEntry{Pipe: &pipe.PipeEntry{Id: proto.Uint32(f.ID), PipeId: proto.Uint32(uint32(f.Stat.Ino)), Flags: proto.Uint32(f.Flags), Fown: own}}, nil
}

// find returns the pipe that a file belongs to, having looked through the files
// that became known since the last time.
func (x *pipeIndex) find(t *scan.Tree, f *scan.File, match func(*scan.File) bool) (*pipeEnds, error) {
	if x.ends == nil {
		x.ends = map[inodeKey]*pipeEnds{}
	}
	for ; x.seen < len(t.Files); x.seen++ {
		if f := t.Files[x.seen]; match(f) {
			x.add(f)
		}
	}
	p := x.ends[inodeKey{f.Stat.Dev, f.Stat.Ino}]
	if p == nil {
		return nil, fmt.Errorf("%v: a pipe that was not there when the tree was looked at", f)
	}
	return p, nil
}

func (x *pipeIndex) add(f *scan.File) {
	if f.Flags&unix.O_PATH != 0 {
		return // it is no end
	}
	key := inodeKey{f.Stat.Dev, f.Stat.Ino}
	p := x.ends[key]
	if p == nil {
		p = &pipeEnds{}
		x.ends[key] = p
	}
	if access(f.Flags) != unix.O_WRONLY {
		p.readers = append(p.readers, f)
	}
	if access(f.Flags) != unix.O_RDONLY {
		p.writers = append(p.writers, f)
	}
}

// dump writes down what the ends of a pipe share. f is one of them, borrowed
// as d.
func (p *pipeEnds) dump(env *kind.DumpEnv, f *scan.File, d *fd.FD) error {
	outside := p.complete(f, d)
	if outside != nil && !(errors.Is(outside, kind.ErrUnsupported) && env.Options.IsExternal("pipe", f.Stat.Ino)) {
		return outside
	}
	e, q, err := p.contents(f, d)
	if err != nil {
		return err
	}
	if outside != nil {
		putVarint(e, pipeOutside, 1)
	}
	putInode(e, f)
	return env.Images.Put(image.PipesData, e, q.data)
}

// contents reads how much a pipe holds, and what is in it.
func (p *pipeEnds) contents(f *scan.File, d *fd.FD) (*pipedata.PipeDataEntry, *pipeQueue, error) {
	size, err := unix.FcntlInt(uintptr(d.Int()), unix.F_GETPIPE_SZ, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("%v: ask for its size: %w", f, err)
	}
	q, err := p.queue(f, d, size)
	if err != nil {
		return nil, nil, fmt.Errorf("%v: %w", f, err)
	}
	e := &pipedata.PipeDataEntry{PipeId: proto.Uint32(uint32(f.Stat.Ino)), Bytes: proto.Uint32(uint32(len(q.data))), Size: proto.Uint32(uint32(size))}
	q.putPieces(e)
	return e, q, nil
}

// complete makes sure that nobody outside of the tree holds an end that nobody
// in it has. A borrowed descriptor is the same file description, so it doesn't
// count as another end: a reader without writers sees POLLHUP, a writer
// without readers POLLERR.
func (p *pipeEnds) complete(f *scan.File, d *fd.FD) error {
	want, end := int16(0), ""
	switch {
	case len(p.writers) == 0:
		want, end = unix.POLLHUP, "writing"
	case len(p.readers) == 0:
		want, end = unix.POLLERR, "reading"
	default:
		return nil
	}
	fds := []unix.PollFd{{Fd: int32(d.Int())}}
	if _, err := linux.PollNow(fds); err != nil {
		return fmt.Errorf("%v: poll: %w", f, err)
	}
	if fds[0].Revents&want != 0 {
		return nil
	}
	return heldOutside(f, end)
}

func heldOutside(f *scan.File, end string) error {
	how := ""
	if strings.HasPrefix(f.Link, "pipe:[") {
		how = fmt.Sprintf(", or name it by --external pipe[%d] and hand in another one at the restore (--inherit-fd)", f.Stat.Ino)
	}
	return kind.Unsupported(f, "its end for %s is held outside of the tree; dump the process at the other end too, start the program with a file instead%s", end, how)
}

// putInode notes owner and mode if they are not what a restore gives anyway:
// a program reopens /dev/stdout only if it may.
func putInode(e *pipedata.PipeDataEntry, f *scan.File) {
	if f.Stat.UID == 0 && f.Stat.GID == 0 && f.Stat.Mode&0o7777 == pipeMode {
		return
	}
	putVarint(e, pipeUser, uint64(f.Stat.UID))
	putVarint(e, pipeGroup, uint64(f.Stat.GID))
	putVarint(e, pipeAccess, uint64(f.Stat.Mode&0o7777))
}

// pipeMode is the mode of a new pipe (get_pipe_inode of fs/pipe.c).
const pipeMode = 0o600
