package file

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/criu/fsnotify"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/scan"
)

// Fanotify is fanotify(7) with marks on files and on mounts.
type Fanotify struct {
	paths  watchedPaths
	memory *kmem.Shared // the kernel's
}

// Close implements kind.Closer.
func (k *Fanotify) Close() error { return k.memory.Close() }

// Type implements kind.File.
func (*Fanotify) Type() fdinfo.FdTypes { return fdinfo.FdTypes_FANOTIFY }

// Match implements kind.File.
func (*Fanotify) Match(f *scan.File) bool { return f.Link == "anon_inode:[fanotify]" }

// fanotifyClass is the bits of a class that may forbid what others do.
const fanotifyClass = unix.FAN_CLASS_CONTENT | unix.FAN_CLASS_PRE_CONTENT

// fanotifyOpen is the flags of files that only somebody with CAP_SYS_ADMIN can make, if it
// has no others: without it something like FAN_REPORT_FID must be told.
const fanotifyOpen = 0x1ff

// fanotifyNames are the members of the kernel's structures that tell who made a file. They
// are not with those of other kinds, as few files need them.
var fanotifyNames = []string{"fsnotify_group.fanotify_data", "fanotify_group_private_data.flags"}

// flags returns the flags of a file with FANOTIFY_UNPRIV, which only the kernel's memory tells.
// fanotify_init(2) fails with that, so that whoever does not know it loses nothing silently.
func (k *Fanotify) flags(f *scan.File, d *fd.FD, told uint32) (uint32, error) {
	if told&^fanotifyOpen == 0 {
		return told, nil
	}
	if k.memory == nil {
		k.memory = kmem.Share(fanotifyNames...)
	}
	has, err := fanotifyFlags(k.memory, d)
	if err != nil {
		return 0, kind.Unsupported(f, "nobody tells whether it was made without CAP_SYS_ADMIN (FAN_REPORT_FID), so that it doesn't tell who did something: %v; let the program close it", err)
	}
	return told | has&linux.FANOTIFY_UNPRIV, nil
}

func fanotifyFlags(memory *kmem.Shared, d *fd.FD) (uint32, error) {
	r, err := memory.Reader()
	if err != nil {
		return 0, err
	}
	return groupNumber(r, d, "fsnotify_group.fanotify_data", "fanotify_group_private_data.flags")
}

// groupNumber reads a number of the group that an inotify or fanotify file has, by the names
// of what leads to it there.
func groupNumber(r *kmem.Reader, d *fd.FD, names ...string) (uint32, error) {
	at, err := r.PrivateOf(d.Int())
	if err != nil {
		return 0, err
	}
	for _, n := range names {
		at += r.Off(n)
	}
	var b [4]byte
	err = r.ReadAt(b[:], at)
	return binary.NativeEndian.Uint32(b[:]), err
}

// Dump implements kind.File.
func (k *Fanotify) Dump(ctx context.Context, env *kind.DumpEnv, f *scan.File) (*fdinfo.FileEntry, error) {
	info := f.Info().Fanotify
	switch {
	case info == nil:
		return nil, fmt.Errorf("%v: /proc/%d/fdinfo/%d tells nothing of fanotify", f, f.Task.PID, f.FD)
	case info.Flags&fanotifyClass != 0:
		return nil, kind.Unsupported(f, "it decides what others may do (FAN_CLASS_CONTENT), and they would wait for its answers meanwhile; let the program close it")
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
	if err := noEvents(f, d); err != nil {
		return nil, err
	}
	flags, err := k.flags(f, d, info.Flags)
	if err != nil {
		return nil, err
	}
	defer k.paths.close()
	e := &fsnotify.FanotifyFileEntry{Id: proto.Uint32(f.ID), Flags: proto.Uint32(f.Flags), Fown: own, Faflags: proto.Uint32(flags), Evflags: proto.Uint32(info.EventFlags)}
	for i := range info.Marks {
		m, err := k.mark(ctx, env, f, &info.Marks[i])
		if err != nil {
			return nil, err
		}
		e.Mark = append(e.Mark, m)
	}
	return &fdinfo.FileEntry{Ffy: e}, nil
}

func (k *Fanotify) mark(ctx context.Context, env *kind.DumpEnv, f *scan.File, m *proc.FanotifyMark) (*fsnotify.FanotifyMarkEntry, error) {
	e := &fsnotify.FanotifyMarkEntry{Id: proto.Uint32(f.ID), Mflags: proto.Uint32(m.MFlags), Mask: proto.Uint32(m.Mask), IgnoredMask: proto.Uint32(m.Ignored), SDev: proto.Uint32(m.Dev)}
	switch m.On {
	case "inode":
		name, err := k.paths.find(ctx, env, f, m.Dev, m.Ino, m.Handle)
		e.Type = fsnotify.MarkType_INODE.Enum()
		e.Ie = &fsnotify.FanotifyInodeMarkEntry{IIno: proto.Uint64(m.Ino), FHandle: handleEntry(m.Handle, name)}
		return e, err
	case "mount":
		name, err := mountPoint(f, m.MntID)
		e.Type = fsnotify.MarkType_MOUNT.Enum()
		e.Me = &fsnotify.FanotifyMountMarkEntry{MntId: proto.Uint32(uint32(m.MntID)), Path: &name}
		return e, err
	}
	return nil, kind.Unsupported(f, "it watches a whole %s, which images have no word for; let it watch a mount instead", m.On)
}

// mountPoint returns where a mount is.
func mountPoint(f *scan.File, id int32) (string, error) {
	all, err := proc.Mountinfo(f.Task.Dir)
	if err != nil {
		return "", err
	}
	for _, m := range all {
		if m.ID == int(id) {
			return m.Mountpoint, nil
		}
	}
	return "", kind.Unsupported(f, "it watches mount %d, which is not in the tree's mount namespace; let the program take that mark off", id)
}

// Plan implements kind.File.
func (*Fanotify) Plan(p *plan.Plan, e *fdinfo.FileEntry) error {
	in := e.GetFfy()
	if in == nil {
		return entryError(e, "a fanotify file without its entry")
	}
	b, err := newBase(e, in.GetId(), in.GetFlags(), in.GetFown())
	if err != nil {
		return err
	}
	n := &fanotifyNode{inotifyNode: inotifyNode{base: b}, init: in.GetFaflags(), events: in.GetEvflags()}
	if n.init&fanotifyClass != 0 {
		return entryError(e, "a fanotify file that decides what others may do, which Glis can't restore")
	}
	for _, m := range in.GetMark() {
		var name string
		if m.GetType() == fsnotify.MarkType_MOUNT {
			name, err = watchedPath(handleEntry(proc.FileHandle{}, m.GetMe().GetPath()), uint64(m.GetMe().GetMntId()))
		} else {
			name, err = watchedPath(m.GetIe().GetFHandle(), m.GetIe().GetIIno())
		}
		if err != nil {
			return entryError(e, "a fanotify file: %v", err)
		}
		n.marks = append(n.marks, linux.Mark{Name: name, Mount: m.GetType() == fsnotify.MarkType_MOUNT, Flags: m.GetMflags(), Mask: m.GetMask(), Ignored: m.GetIgnoredMask()})
	}
	return p.Add(n)
}

type fanotifyNode struct {
	inotifyNode
	init, events uint32
	marks        []linux.Mark
}

// String implements plan.Node.
func (n *fanotifyNode) String() string {
	return fmt.Sprintf("fanotify %#x: %d marks", n.id, len(n.marks))
}

// Check implements plan.Checked.
func (n *fanotifyNode) Check(env *plan.CheckEnv) error {
	if n.init&linux.FANOTIFY_UNPRIV != 0 || env.Capable(unix.CAP_SYS_ADMIN) {
		return nil
	}
	return fmt.Errorf("fanotify %#x: it needs CAP_SYS_ADMIN", n.id)
}

// Create implements plan.Node.
func (n *fanotifyNode) Create(context.Context, *plan.Env) (*fd.FD, error) {
	d, err := closedOnExec(func() (int, error) {
		return linux.FanotifyInit(n.init, n.events) // it tells them all later, also those of its first descriptor
	})
	if err != nil {
		return nil, fmt.Errorf("fanotify %#x, flags %#x: %w", n.id, n.init, err)
	}
	for i := range n.marks {
		m := &n.marks[i]
		if err := missing(linux.AddMark(d.Int(), m, unix.FAN_MARK_DONT_FOLLOW)); err != nil {
			return nil, errors.Join(fmt.Errorf("fanotify %#x: mark on %s: %w", n.id, m.Name, err), d.Close())
		}
	}
	hold, err := unix.FcntlInt(uintptr(d.Int()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	n.hold = fd.New(hold)
	return n.ready(d)
}
