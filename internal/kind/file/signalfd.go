package file

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/criu/signalfd"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/scan"
)

// Signalfd is signalfd(2). What it would read are the pending signals of
// whoever reads, which are no part of it.
type Signalfd struct{}

// Type implements kind.File.
func (*Signalfd) Type() fdinfo.FdTypes { return fdinfo.FdTypes_SIGNALFD }

// Match implements kind.File.
func (*Signalfd) Match(f *scan.File) bool { return f.Link == "anon_inode:[signalfd]" }

// Dump implements kind.File.
func (*Signalfd) Dump(_ context.Context, env *kind.DumpEnv, f *scan.File) (*fdinfo.FileEntry, error) {
	if f.Info().Sigmask == nil {
		return nil, fmt.Errorf("%v: /proc/%d/fdinfo/%d tells no sigmask", f, f.Task.PID, f.FD)
	}
	own, err := borrowOwner(env, f)
	if err != nil {
		return nil, err
	}
	return &fdinfo.FileEntry{Sgfd: &signalfd.SignalfdEntry{Id: proto.Uint32(f.ID), Flags: proto.Uint32(f.Flags), Fown: own, Sigmask: f.Info().Sigmask}}, nil
}

// Plan implements kind.File.
func (*Signalfd) Plan(p *plan.Plan, e *fdinfo.FileEntry) error {
	in := e.GetSgfd()
	if in == nil {
		return entryError(e, "a signalfd without its entry")
	}
	b, err := newBase(e, in.GetId(), in.GetFlags(), in.GetFown())
	if err != nil {
		return err
	}
	return p.Add(&signalfdNode{base: b, mask: in.GetSigmask()})
}

type signalfdNode struct {
	base
	mask uint64 // bit n-1 is signal n
}

// String implements plan.Node.
func (n *signalfdNode) String() string { return fmt.Sprintf("signalfd %#x: signals %#x", n.id, n.mask) }

// Create implements plan.Node.
func (n *signalfdNode) Create(context.Context, *plan.Env) (*fd.FD, error) {
	var set unix.Sigset_t
	set.Val[0] = n.mask
	num, err := unix.Signalfd(-1, &set, unix.SFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("signalfd %#x: %w", n.id, err)
	}
	return n.ready(fd.New(num))
}
