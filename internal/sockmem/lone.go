package sockmem

import (
	"encoding/binary"
	"slices"
	"strings"

	"glis.dev/glis/internal/kmem"
)

// Lone is an open file as the kernel's memory tells of it: one that is in a message
// only, so that nobody can be asked.
type Lone struct {
	At    kmem.Addr // where the kernel has it
	Flags uint32    // as F_GETFL has them
	Pos   int64     // of a file that has one
	Inode kmem.Addr // where that is
	Mode  uint32
	UID   uint32 // of who owns it
	GID   uint32
	Ops   kmem.Addr // what makes it the kind that it is
	// Owner is who is told of I/O on it, nil if there is nobody.
	Owner *Owner
	// Watches are the epoll files that watch it.
	Watches []Watch
	Locks   []Lock // that belong to it
	// Heard says that to open its file once more would be noticed: somebody watches that or
	// its directory (inotify), or has a lease on it.
	Heard bool
	// Bound says that a lock is on it which Locks can't tell of.
	Bound bool
	Path  string // from the root of all, "" if no path leads to it
}

// loneNames are what Lone reads. Where one is missing it tells nothing.
func loneNames() []string {
	names := []string{
		"file.f_flags", "file.f_pos", "file.f_op", "file.f_path",
		"inode.i_uid", "inode.i_gid", "inode.i_flctx", "inode.i_fsnotify_mask", "path.mnt", "path.dentry", "dentry.d_parent", "dentry.d_inode", "dentry.d_name", "qstr.name", "qstr.len",
		"vfsmount.mnt_root", "mount.mnt", "mount.mnt_parent", "mount.mnt_mountpoint", "eventfd_ctx.count", "eventfd_ctx.flags", "unix_sock.path", "sock_common.skc_family",
	}
	return slices.Concat(names, lockLists[:], []string{"file_lock.fl_start", "file_lock.fl_end"}, ownerNames(), watchNames())
}

// optional marks members that may be missing.
func optional(names []string) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = "?" + n
	}
	return out
}

// TellsLone tells whether Lone and Counter can be asked.
func (m *Memory) TellsLone() bool {
	return !slices.ContainsFunc(loneNames(), func(n string) bool { return !m.Has(n) })
}

// Lone reads what an open file is. file is where the kernel has it, see Buffer.
func (m *Memory) Lone(file kmem.Addr) (*Lone, error) {
	x := &Lone{At: file}
	var err error
	if x.Flags, err = m.u32(file, "file.f_flags"); err != nil {
		return nil, err
	}
	pos, err := m.bytes(file, "file.f_pos", 8)
	if err != nil {
		return nil, err
	}
	x.Pos = int64(binary.NativeEndian.Uint64(pos))
	if x.Inode, err = m.follow(file, "file.f_inode"); err != nil {
		return nil, err
	}
	mode, err := m.bytes(x.Inode, "inode.i_mode", 2)
	if err != nil {
		return nil, err
	}
	x.Mode = uint32(binary.NativeEndian.Uint16(mode))
	if x.UID, err = m.u32(x.Inode, "inode.i_uid"); err != nil {
		return nil, err
	}
	if x.GID, err = m.u32(x.Inode, "inode.i_gid"); err != nil {
		return nil, err
	}
	if x.Ops, err = m.follow(file, "file.f_op"); err != nil {
		return nil, err
	}
	if x.Owner, err = m.owner(file); err != nil {
		return nil, err
	}
	if x.Watches, err = m.watches(file); err != nil {
		return nil, err
	}
	if err := m.locks(x); err != nil {
		return nil, err
	}
	if !x.Heard {
		if x.Heard, err = m.watched(file); err != nil {
			return nil, err
		}
	}
	x.Path, err = m.pathOf(file)
	return x, err
}

// opening is what those hear of who watch a file that is opened and closed: FS_OPEN,
// FS_CLOSE_WRITE, FS_CLOSE_NOWRITE, and whoever is asked before (FS_OPEN_PERM), see
// include/linux/fsnotify_backend.h.
const opening = 0x20 | 0x08 | 0x10 | 0x10000

// watched tells whether somebody would hear of it if a file was opened (inotify(7)).
func (m *Memory) watched(file kmem.Addr) (bool, error) {
	entry, err := m.Pointer(file + m.Off("file.f_path") + m.Off("path.dentry"))
	if err != nil {
		return false, err
	}
	for range 2 { // itself, and the directory
		inode, err := m.follow(entry, "dentry.d_inode")
		if err != nil || inode == 0 {
			return true, err
		}
		mask, err := m.u32(inode, "inode.i_fsnotify_mask")
		if err != nil || mask&opening != 0 {
			return true, err
		}
		if entry, err = m.follow(entry, "dentry.d_parent"); err != nil {
			return true, err
		}
	}
	return false, nil
}

// Counter reads the counter of an eventfd, and whether it is a semaphore.
func (m *Memory) Counter(file kmem.Addr) (count uint64, semaphore bool, err error) {
	ctx, err := m.Private(file)
	if err != nil {
		return 0, false, err
	}
	b, err := m.bytes(ctx, "eventfd_ctx.count", 8)
	if err != nil {
		return 0, false, err
	}
	flags, err := m.u32(ctx, "eventfd_ctx.flags")
	return binary.NativeEndian.Uint64(b), flags&1 != 0, err
}

// limits of a path, in components and bytes.
const (
	maxDepth = 4096 // PATH_MAX
	maxPart  = 255  // NAME_MAX
)

// pathOf returns the path of an open file, "" if it has none.
func (m *Memory) pathOf(file kmem.Addr) (string, error) {
	return m.pathAt(file + m.Off("file.f_path"))
}

// pathAt is pathOf for a struct path.
func (m *Memory) pathAt(at kmem.Addr) (string, error) {
	mnt, err := m.Pointer(at + m.Off("path.mnt"))
	if err != nil {
		return "", err
	}
	entry, err := m.Pointer(at + m.Off("path.dentry"))
	if err != nil {
		return "", err
	}
	return m.pathFrom(mnt, entry)
}

// MountPath returns where a mount is, a struct vfsmount; "" if that is nowhere.
func (m *Memory) MountPath(mnt kmem.Addr) (string, error) {
	root, err := m.follow(mnt, "vfsmount.mnt_root")
	if err != nil {
		return "", err
	}
	return m.pathFrom(mnt, root)
}

// Within returns the path of an inode from the root of its file system, by one of its
// names, "" if it has none. The members inode.i_dentry and dentry.d_u must be known.
func (m *Memory) Within(inode kmem.Addr) (string, error) {
	alias, err := m.follow(inode, "inode.i_dentry")
	if err != nil || alias == 0 {
		return "", err
	}
	entry := alias - m.Off("dentry.d_u")
	var parts []string
	for range maxDepth {
		part, parent, err := m.part(entry)
		if err != nil {
			return "", err
		}
		if parent == entry {
			slices.Reverse(parts)
			return "/" + strings.Join(parts, "/"), nil
		}
		parts, entry = append(parts, part), parent
	}
	return "", errGone
}

// pathFrom is pathAt for a mount and an entry in it.
func (m *Memory) pathFrom(mnt, entry kmem.Addr) (string, error) {
	var parts []string
	for range maxDepth {
		root, err := m.follow(mnt, "vfsmount.mnt_root")
		if err != nil {
			return "", err
		}
		if entry != root {
			part, parent, err := m.part(entry)
			if err != nil || parent == entry {
				return "", err
			}
			parts, entry = append(parts, part), parent
			continue
		}
		its := mnt - m.Off("mount.mnt")
		parent, err := m.follow(its, "mount.mnt_parent")
		if err != nil {
			return "", err
		}
		if parent == its {
			slices.Reverse(parts)
			return "/" + strings.Join(parts, "/"), nil
		}
		if entry, err = m.follow(its, "mount.mnt_mountpoint"); err != nil {
			return "", err
		}
		mnt = parent + m.Off("mount.mnt")
	}
	return "", errGone
}

// Name returns the last component of the path of an open file, or what the kernel calls
// one that has none.
func (m *Memory) Name(file kmem.Addr) (string, error) {
	entry, err := m.Pointer(file + m.Off("file.f_path") + m.Off("path.dentry"))
	if err != nil {
		return "", err
	}
	name, _, err := m.part(entry)
	return name, err
}

// part returns the last component of a path, and where what is before it is.
func (m *Memory) part(entry kmem.Addr) (string, kmem.Addr, error) {
	name := entry + m.Off("dentry.d_name")
	n, err := m.u32(name, "qstr.len")
	if err != nil {
		return "", 0, err
	}
	at, err := m.follow(name, "qstr.name")
	if err != nil {
		return "", 0, err
	}
	b := make([]byte, min(n, maxPart))
	if err := m.ReadAt(b, at); err != nil {
		return "", 0, err
	}
	parent, err := m.follow(entry, "dentry.d_parent")
	return string(b), parent, err
}
