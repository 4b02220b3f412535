package file

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/criu/eventfd"
	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/scan"
)

// Eventfd is eventfd(2).
//
// An eventfd is always open for reading and writing, so the lowest bit of its
// flags in the image says nothing; there Glis keeps EFD_SEMAPHORE, which has
// the same value. CRIU ignores it and restores a plain counter.
type Eventfd struct {
	memory *kmem.Shared // the kernel's
	v1     func() bool  // see cgroupsWrite
}

const semaphore = unix.EFD_SEMAPHORE

// maxCount is the largest value that a program can bring a counter to.
const maxCount = math.MaxUint64 - 1

// Type implements kind.File.
func (*Eventfd) Type() fdinfo.FdTypes { return fdinfo.FdTypes_EVENTFD }

// Match implements kind.File.
func (*Eventfd) Match(f *scan.File) bool { return f.Link == eventfdLink }

const eventfdLink = "anon_inode:[eventfd]"

// Dump implements kind.File.
func (k *Eventfd) Dump(_ context.Context, env *kind.DumpEnv, f *scan.File) (*fdinfo.FileEntry, error) {
	info := f.Info().Eventfd
	if info == nil {
		return nil, fmt.Errorf("%v: /proc/%d/fdinfo/%d tells no eventfd-count", f, f.Task.PID, f.FD)
	}
	if info.Count > maxCount {
		return nil, kind.Unsupported(f, "its counter overflowed; let the program read it first")
	}
	d, err := f.Borrow()
	if err != nil {
		return nil, err
	}
	defer d.Close()
	own, err := readOwner(env, f, d)
	if err == nil {
		err = k.notWritten(f, d)
	}
	if err != nil {
		return nil, err
	}
	flags := f.Flags
	is, err := k.isSemaphore(f, info, d)
	if err != nil {
		return nil, err
	}
	if is {
		flags |= semaphore
	}
	return &fdinfo.FileEntry{Efd: &eventfd.EventfdFileEntry{Id: proto.Uint32(f.ID), Flags: proto.Uint32(flags), Fown: own, Counter: proto.Uint64(info.Count)}}, nil
}

// Plan implements kind.File.
func (*Eventfd) Plan(p *plan.Plan, e *fdinfo.FileEntry) error {
	in := e.GetEfd()
	if in == nil {
		return entryError(e, "an eventfd without its entry")
	}
	if in.GetCounter() > maxCount {
		return entryError(e, "an eventfd with a counter of %d: it can't be", in.GetCounter())
	}
	b, err := newBase(e, in.GetId(), in.GetFlags(), in.GetFown())
	if err != nil {
		return err
	}
	return p.Add(&eventfdNode{base: b, count: in.GetCounter()})
}

type eventfdNode struct {
	base
	count uint64
}

func (n *eventfdNode) semaphore() bool { return n.flags&semaphore != 0 }

// String implements plan.Node.
func (n *eventfdNode) String() string {
	s := fmt.Sprintf("eventfd %#x: counter %d", n.id, n.count)
	if n.semaphore() {
		s += ", semaphore"
	}
	return s
}

// Create implements plan.Node.
func (n *eventfdNode) Create(context.Context, *plan.Env) (*fd.FD, error) {
	flags := unix.EFD_CLOEXEC | unix.EFD_NONBLOCK
	if n.semaphore() {
		flags |= semaphore
	}
	num, err := unix.Eventfd(0, flags)
	if err != nil {
		return nil, fmt.Errorf("eventfd %#x: %w", n.id, err)
	}
	d := fd.New(num)
	if err := n.bringUp(d); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return n.ready(d)
}

// bringUp sets the counter by a write: eventfd(2) itself takes 32 bits only.
func (n *eventfdNode) bringUp(d *fd.FD) error {
	if n.count == 0 {
		return nil
	}
	var b [8]byte
	binary.NativeEndian.PutUint64(b[:], n.count)
	if _, err := unix.Write(d.Int(), b[:]); err != nil {
		return fmt.Errorf("eventfd %#x: set its counter to %d: %w", n.id, n.count, err)
	}
	return nil
}
