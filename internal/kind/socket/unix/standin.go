package unix

import (
	"encoding/binary"
	"errors"
	"fmt"

	sys "golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/sockmem"
)

// A descriptor that is only in messages of connections that nobody has accepted can't
// be had: accepting one can't be taken back. Of a plain file with a path, and of an
// eventfd, the kernel's memory tells all; another one like it is dumped in its place.

// standIn returns a file like the one that the kernel has at an address, nil if that
// can't be told.
func (w *waitingRoom) standIn(l *look, at kmem.Addr) (*scan.File, error) {
	if w.env.Files == nil || !w.memory.TellsLone() {
		return nil, nil
	}
	x, err := w.memory.Lone(at)
	if err != nil || x.Bound {
		return nil, err
	}
	own, err := w.alike(at, x)
	if err != nil || own == nil {
		return nil, err
	}
	f, err := w.env.Files.Received(own, l.file)
	if err != nil {
		return nil, err
	}
	w.files[at] = f
	return f, nil
}

// alike makes another file like one.
func (w *waitingRoom) alike(at kmem.Addr, x *sockmem.Lone) (*fd.FD, error) {
	var own *fd.FD
	var err error
	if x.Mode&sys.S_IFMT == sys.S_IFREG && x.Path != "" && x.Flags&sys.O_PATH == 0 {
		own, err = reopened(x)
	} else {
		own, err = w.counter(at, x)
	}
	if err != nil || own == nil {
		return nil, err
	}
	same, err := w.isAlike(own, x)
	if err == nil && same {
		return own, nil
	}
	return nil, errors.Join(err, own.Close())
}

// reopened opens a file by its path once more; nil if that can't be: isAlike sees whether
// it is the same one. Nothing but a plain file is opened.
func reopened(x *sockmem.Lone) (*fd.FD, error) {
	at, err := sys.Open(x.Path, sys.O_PATH|sys.O_NOFOLLOW|sys.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil //nolint:nilerr // then it is refused, whyever
	}
	defer sys.Close(at)
	var st sys.Stat_t
	if err := sys.Fstat(at, &st); err != nil || st.Mode != x.Mode {
		return nil, err
	}
	n, err := sys.Open(fmt.Sprintf("/proc/self/fd/%d", at), int(x.Flags)|sys.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil //nolint:nilerr // see above
	}
	own := fd.New(n)
	if _, err := sys.Seek(n, x.Pos, sys.SEEK_SET); err != nil {
		return nil, errors.Join(fmt.Errorf("go to where %q was: %w", x.Path, err), own.Close())
	}
	return own, nil
}

// counter makes an eventfd with the same counter; nil if that is none.
func (w *waitingRoom) counter(at kmem.Addr, x *sockmem.Lone) (*fd.FD, error) {
	plain, err := sys.Eventfd(0, sys.EFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	own := fd.New(plain)
	file, err := w.memory.File(plain)
	if err != nil {
		return nil, errors.Join(err, own.Close())
	}
	its, err := w.memory.Lone(file)
	if err != nil || its.Ops != x.Ops {
		return nil, errors.Join(err, own.Close())
	}
	if err := own.Close(); err != nil {
		return nil, err
	}
	count, semaphore, err := w.memory.Counter(at)
	if err != nil {
		return nil, err
	}
	flags := sys.EFD_CLOEXEC | int(x.Flags)&sys.O_NONBLOCK
	if semaphore {
		flags |= sys.EFD_SEMAPHORE
	}
	n, err := sys.Eventfd(0, flags)
	if err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	own = fd.New(n)
	if count > 0 {
		_, err = sys.Write(n, binary.NativeEndian.AppendUint64(nil, count))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("count on an eventfd to %d: %w", count, err), own.Close())
	}
	return own, nil
}

// isAlike makes sure that a file that was made is what it is to stand for.
func (w *waitingRoom) isAlike(own *fd.FD, x *sockmem.Lone) (bool, error) {
	file, err := w.memory.File(own.Int())
	if err != nil {
		return false, err
	}
	is, err := w.memory.Lone(file)
	if err != nil {
		return false, err
	}
	plain := x.Mode&sys.S_IFMT != sys.S_IFREG
	return is.Ops == x.Ops && is.Flags == x.Flags && (plain || is.Inode == x.Inode && is.Pos == x.Pos), nil
}
