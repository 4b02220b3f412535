package file

import (
	"context"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	core "glis.dev/glis/image/criu/criu-core"
	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/criu/inventory"
	"glis.dev/glis/image/criu/ns"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/scan"
)

// NSFile is a namespace that is open as a file, see namespaces(7), if it is one
// that the tree shares with Glis. It comes back as that of whoever restores.
type NSFile struct{}

// namespace is one sort of them, and its number in what Glis writes: see
// ids-PID.img.
type namespace struct {
	name string
	flag uint32
	id   uint32
	own  func(*core.TaskKobjIdsEntry) uint32
}

var namespaceFiles = [...]namespace{
	{"pid", unix.CLONE_NEWPID, 1, (*core.TaskKobjIdsEntry).GetPidNsId},
	{"net", unix.CLONE_NEWNET, 2, (*core.TaskKobjIdsEntry).GetNetNsId},
	{"ipc", unix.CLONE_NEWIPC, 3, (*core.TaskKobjIdsEntry).GetIpcNsId},
	{"uts", unix.CLONE_NEWUTS, 4, (*core.TaskKobjIdsEntry).GetUtsNsId},
	{"mnt", unix.CLONE_NEWNS, 6, (*core.TaskKobjIdsEntry).GetMntNsId},
	{"user", unix.CLONE_NEWUSER, 7, (*core.TaskKobjIdsEntry).GetUserNsId},
	{"cgroup", unix.CLONE_NEWCGROUP, 8, (*core.TaskKobjIdsEntry).GetCgroupNsId},
}

// namespaceOf returns what an open file is a namespace of, nil if it is none or
// another one than Glis's.
func namespaceOf(f *scan.File) *namespace {
	if strings.HasPrefix(f.Link, "/") {
		return nil
	}
	for i := range namespaceFiles {
		n := &namespaceFiles[i]
		if !strings.HasPrefix(f.Link, n.name+":[") {
			continue
		}
		if own, err := os.Readlink(n.path()); err == nil && own == f.Link {
			return n
		}
	}
	return nil
}

func (n *namespace) path() string { return "/proc/self/ns/" + n.name }

// Type implements kind.File.
func (NSFile) Type() fdinfo.FdTypes { return fdinfo.FdTypes_NS }

// Match implements kind.File.
func (NSFile) Match(f *scan.File) bool { return namespaceOf(f) != nil }

// Dump implements kind.File.
func (NSFile) Dump(_ context.Context, env *kind.DumpEnv, f *scan.File) (*fdinfo.FileEntry, error) {
	if f.Flags&unix.O_PATH == 0 { // that has none
		own, err := borrowOwner(env, f)
		if err != nil {
			return nil, err
		}
		if own.GetPid() != 0 || own.GetSignum() != 0 {
			return nil, kind.Unsupported(f, "it has an owner of signals (F_SETOWN), which images have no place for; reset it")
		}
	}
	n := namespaceOf(f)
	return &fdinfo.FileEntry{Nsf: &ns.NsFileEntry{Id: proto.Uint32(f.ID), NsId: proto.Uint32(n.id), NsCflag: proto.Uint32(n.flag), Flags: proto.Uint32(f.Flags)}}, nil
}

// Plan implements kind.File.
func (NSFile) Plan(p *plan.Plan, e *fdinfo.FileEntry) error {
	in := e.GetNsf()
	if in == nil {
		return entryError(e, "a namespace without its entry")
	}
	b, err := newBase(e, in.GetId(), in.GetFlags(), noOwner())
	if err != nil {
		return err
	}
	host, err := hostIDs(p.Source)
	if err != nil {
		return err
	}
	for i := range namespaceFiles {
		n := &namespaceFiles[i]
		if n.flag != in.GetNsCflag() {
			continue
		}
		if n.own(host) != in.GetNsId() {
			return kind.Unsupported(fmt.Sprintf("file %#x", in.GetId()), "it is a %s namespace of its own, which Glis can't restore yet", n.name)
		}
		return p.Add(&nsNode{b, n})
	}
	return entryError(e, "a namespace of a sort that Glis does not know (%#x)", in.GetNsCflag())
}

// Doubt implements kind.Doubter. What namespaces the tree has is written last, and
// was looked at when it was frozen.
func (NSFile) Doubt(plan.Source) (kind.Doubt, error) {
	return &alone{plain: func(e *fdinfo.FileEntry) bool { return e.GetNsf() != nil }}, nil
}

// hostIDs returns the numbers of the namespaces that the dump was made from.
func hostIDs(src plan.Source) (*core.TaskKobjIdsEntry, error) {
	all, err := src.Entries(image.Inventory)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	return all[0].Message.(*inventory.InventoryEntry).GetRootIds(), nil
}

type nsNode struct {
	base
	ns *namespace
}

// String implements plan.Node.
func (n *nsNode) String() string { return fmt.Sprintf("file %#x: the %s namespace", n.id, n.ns.name) }

// Create implements plan.Node.
func (n *nsNode) Create(context.Context, *plan.Env) (*fd.FD, error) {
	num, err := unix.Open(n.ns.path(), unix.O_RDONLY|unix.O_CLOEXEC|int(n.flags&unix.O_PATH), 0)
	if err != nil {
		return nil, fmt.Errorf("%s namespace: %w", n.ns.name, err)
	}
	if n.flags&unix.O_PATH != 0 {
		return fd.New(num), nil
	}
	return n.ready(fd.New(num))
}
