package file

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/criu/pidfd"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/stub"
)

// Pidfd is pidfd_open(2): of a process of the tree, or of one that is dead and
// was waited for. All pidfds of one dead process are of one again.
type Pidfd struct {
	dead map[uint32]*deadProcess // of a restore, by inode
}

// deadProcess is a process that ended before the dump. The first of its nodes
// makes another one end.
type deadProcess struct {
	first  *pidfdNode
	status unix.WaitStatus
}

// Type implements kind.File.
func (*Pidfd) Type() fdinfo.FdTypes { return fdinfo.FdTypes_PIDFD }

// Match implements kind.File. Since Linux 6.9 pidfds have a file system of
// their own.
func (*Pidfd) Match(f *scan.File) bool {
	return f.Link == "anon_inode:[pidfd]" || strings.HasPrefix(f.Link, "pidfd:[")
}

// noPID is how the kernel shows a process that is dead.
const noPID = -1

// Dump implements kind.File.
func (*Pidfd) Dump(_ context.Context, env *kind.DumpEnv, f *scan.File) (*fdinfo.FileEntry, error) {
	info := f.Info().Pidfd
	if info == nil {
		return nil, fmt.Errorf("%v: /proc/%d/fdinfo/%d tells no process", f, f.Task.PID, f.FD)
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
	e := &pidfd.PidfdEntry{Id: proto.Uint32(f.ID), Ino: proto.Uint32(uint32(f.Stat.Ino)), Flags: proto.Uint32(f.Flags &^ (unix.O_RDWR | unix.O_CLOEXEC)), Nspid: proto.Int32(noPID), Fown: own}
	if info.PID == noPID {
		if status, ok := linux.PidfdExit(d.Int()); ok {
			putVarint(e, pidfdStatus, uint64(status))
		}
		return &fdinfo.FileEntry{Pidfd: e}, nil
	}
	t := env.Tree.Task(proc.PID(info.PID))
	switch {
	case t == nil && f.Flags&unix.PIDFD_THREAD != 0:
		return nil, kind.Unsupported(f, "it is of thread %d (PIDFD_THREAD), which is not the first of a process of the tree; let the program close it first", info.PID)
	case t == nil:
		return nil, kind.Unsupported(f, "it is of process %d, which is outside of the tree and may be another one at a restore; dump that process too, or let the program close it", info.PID)
	}
	e.Nspid = proto.Int32(int32(t.VPID))
	return &fdinfo.FileEntry{Pidfd: e}, nil
}

// Plan implements kind.File.
func (k *Pidfd) Plan(p *plan.Plan, e *fdinfo.FileEntry) error {
	in := e.GetPidfd()
	if in == nil {
		return entryError(e, "a pidfd without its entry")
	}
	b, err := newBase(e, in.GetId(), in.GetFlags(), in.GetFown())
	if err != nil {
		return err
	}
	n := &pidfdNode{base: b, pid: in.GetNspid()}
	if n.pid == noPID {
		status, _, _ := extra(in, pidfdStatus)
		if ws := unix.WaitStatus(status); status > 0xffff || !ws.Exited() && !ws.Signaled() {
			return entryError(e, "a pidfd of a process that ended with %#x: none does", status)
		}
		k.bury(n, in.GetIno(), unix.WaitStatus(status))
	} else if n.pid < 1 || n.pid > maxPID {
		return entryError(e, "a pidfd of process %d: it can't be", n.pid)
	}
	return p.Add(n)
}

// bury finds the other pidfds of the process that this one was of.
func (k *Pidfd) bury(n *pidfdNode, ino uint32, status unix.WaitStatus) {
	if k.dead == nil {
		k.dead = map[uint32]*deadProcess{}
	}
	if k.dead[ino] == nil {
		k.dead[ino] = &deadProcess{first: n, status: status}
	}
	n.dead = k.dead[ino]
}

type pidfdNode struct {
	base
	pid  int32
	dead *deadProcess // nil: it lives
}

// String implements plan.Node.
func (n *pidfdNode) String() string {
	if n.dead != nil {
		return fmt.Sprintf("pidfd %#x: of a process that is dead", n.id)
	}
	return fmt.Sprintf("pidfd %#x: of process %d", n.id, n.pid)
}

// Needs implements plan.Node.
func (n *pidfdNode) Needs() []plan.ID {
	if n.dead == nil || n.dead.first == n {
		return nil
	}
	return []plan.ID{n.dead.first.id}
}

// Create implements plan.Node.
func (n *pidfdNode) Create(_ context.Context, env *plan.Env) (*fd.FD, error) {
	d, err := n.open(env)
	if err != nil {
		return nil, fmt.Errorf("pidfd %#x: %w", n.id, err)
	}
	return n.ready(d)
}

func (n *pidfdNode) open(env *plan.Env) (*fd.FD, error) {
	switch {
	case n.dead == nil:
		num, err := unix.PidfdOpen(int(n.pid), int(n.flags&unix.PIDFD_THREAD))
		if err != nil {
			return nil, fmt.Errorf("open process %d: %w", n.pid, err)
		}
		return fd.New(num), nil
	case n.dead.first == n:
		return stub.Dead(n.dead.status)
	}
	first, err := env.File(n.dead.first.id)
	if err != nil {
		return nil, err
	}
	d, err := reopen(first, unix.O_RDWR)
	if errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ESRCH) {
		// Kernels that can't open one again: the file is shared.
		num, err := unix.FcntlInt(uintptr(first.Int()), unix.F_DUPFD_CLOEXEC, 0)
		return fd.New(num), err
	}
	return d, err
}
