package standin

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/sockmem"
)

// What inotify(7) and fanotify(7) watch is a list of marks, each on an inode or a mount.
// A stand-in watches the same ones. Nobody hears of that: to watch is no event.

func notifyNames() []string {
	return []string{
		"fsnotify_group", "fsnotify_group.q_len", "fsnotify_group.marks_list", "fsnotify_mark", "fsnotify_mark.g_list", "fsnotify_mark.mask", "fsnotify_mark.ignore_mask",
		"fsnotify_mark.flags", "fsnotify_mark.connector", "fsnotify_mark_connector.obj", "fsnotify_mark_connector.type",
		"inode.i_fsnotify_marks", "inode.i_dentry", "dentry.d_u", "inode.i_sb", "super_block.s_dev",
	}
}

func inotifyNames() []string {
	return append(notifyNames(), "inotify_inode_mark", "inotify_inode_mark.fsn_mark", "inotify_inode_mark.wd")
}

func fanotifyNames() []string {
	return append(notifyNames(), "mount.mnt_fsnotify_marks", "fsnotify_group.fanotify_data", "fanotify_group_private_data.flags", "fanotify_group_private_data.f_flags")
}

// What a mark is on: enum fsnotify_obj_type of include/linux/fsnotify_backend.h.
const (
	onInode = 0
	onMount = 1
)

// Flags of a mark, FSNOTIFY_MARK_FLAG_* of include/linux/fsnotify_backend.h: those that
// the user gave it.
const (
	exclUnlink  = 0x0010
	oneShot     = 0x0020
	survModify  = 0x0100
	noReference = 0x0200
	ignoreFlags = 0x0400
	given       = exclUnlink | oneShot | survModify | noReference | ignoreFlags
)

// notifyMark is a mark.
type notifyMark struct {
	on                   uint8
	at                   kmem.Addr // struct inode, or struct vfsmount
	wd                   uint32    // of inotify
	mask, ignored, flags uint32
}

// group is an inotify or fanotify file.
type group struct {
	*kmem.Struct
	marks []notifyMark
}

// groupAt reads what a file watches. file is where the kernel has it.
func (k *Maker) groupAt(file kmem.Addr, numbered bool) (*group, error) {
	m := k.memory
	at, err := m.Private(file)
	if err != nil {
		return nil, err
	}
	g := &group{}
	if g.Struct, err = m.Struct("fsnotify_group", at); err != nil {
		return nil, err
	}
	head := at + m.Off("fsnotify_group.marks_list")
	next, err := m.Pointer(head)
	for ; err == nil && next != head; next, err = m.Pointer(next) {
		if len(g.marks) == mostWatched {
			return nil, unlike("it watches more than %d files", mostWatched)
		}
		mark, err := k.mark(next-m.Off("fsnotify_mark.g_list"), numbered)
		if err != nil {
			return nil, err
		}
		g.marks = append(g.marks, *mark)
	}
	slices.SortFunc(g.marks, func(a, b notifyMark) int { return cmp.Or(cmp.Compare(a.wd, b.wd), cmp.Compare(a.at, b.at)) })
	return g, err
}

// mark reads a mark.
func (k *Maker) mark(at kmem.Addr, numbered bool) (*notifyMark, error) {
	m := k.memory
	s, err := m.Struct("fsnotify_mark", at)
	if err != nil {
		return nil, err
	}
	x := &notifyMark{mask: s.U32("fsnotify_mark.mask"), ignored: s.U32("fsnotify_mark.ignore_mask"), flags: s.U32("fsnotify_mark.flags") & given}
	if numbered {
		its, err := m.Struct("inotify_inode_mark", at-m.Off("inotify_inode_mark.fsn_mark"))
		if err != nil {
			return nil, err
		}
		x.wd = its.U32("inotify_inode_mark.wd")
	}
	return x, k.whatIsMarked(s.Pointer("fsnotify_mark.connector"), x)
}

// whatIsMarked finds what a connector connects marks with: since Linux 6.9 it tells of an
// inode or a mount, before of where in that the connector is told.
func (k *Maker) whatIsMarked(connector kmem.Addr, x *notifyMark) error {
	m := k.memory
	var b [1]byte
	if err := m.ReadAt(b[:], connector+m.Off("fsnotify_mark_connector.type")); err != nil {
		return err
	}
	x.on = b[0]
	told, back := "inode.i_fsnotify_marks", kmem.Addr(0)
	if x.on == onMount {
		told, back = "mount.mnt_fsnotify_marks", m.Off("mount.mnt")
	} else if x.on != onInode {
		return unlike("it watches a whole file system, or more than that")
	}
	obj, err := m.Pointer(connector + m.Off("fsnotify_mark_connector.obj"))
	if err != nil {
		return err
	}
	for _, at := range []kmem.Addr{obj, obj - m.Off(told) + back} {
		is, err := m.Pointer(at - back + m.Off(told))
		if err == nil && is == connector {
			x.at = at
			return nil
		}
	}
	return unlike("the kernel's memory of it has changed while it was read")
}

// inotify makes an inotify file that watches the same, under the same numbers.
func inotify(k *Maker, x *sockmem.Lone) (*fd.FD, error) {
	return k.notifying(x, true, func(*group) (int, error) { return unix.InotifyInit1(unix.IN_CLOEXEC) }, func(own int, name string, m *notifyMark) error {
		mask := m.mask & unix.IN_ALL_EVENTS
		if m.flags&exclUnlink != 0 {
			mask |= unix.IN_EXCL_UNLINK
		}
		if m.flags&oneShot != 0 {
			mask |= unix.IN_ONESHOT
		}
		return linux.AddWatch(own, name, mask, m.wd)
	})
}

// fanotifyClasses is the bits of a class that may forbid what others do.
const fanotifyClasses = unix.FAN_CLASS_CONTENT | unix.FAN_CLASS_PRE_CONTENT

// fanotify makes a fanotify file with the same marks.
func fanotify(k *Maker, x *sockmem.Lone) (*fd.FD, error) {
	return k.notifying(x, false, k.initFanotify, func(own int, name string, m *notifyMark) error {
		as := linux.Mark{Name: name, Mount: m.on == onMount, Mask: m.mask, Ignored: m.ignored}
		for flag, told := range map[uint32]uint32{survModify: unix.FAN_MARK_IGNORED_SURV_MODIFY, noReference: unix.FAN_MARK_EVICTABLE, ignoreFlags: unix.FAN_MARK_IGNORE} {
			if m.flags&flag != 0 {
				as.Flags |= told
			}
		}
		return linux.AddMark(own, &as, 0)
	})
}

func (k *Maker) initFanotify(g *group) (int, error) {
	data := g.In("fsnotify_group.fanotify_data")
	flags := data.U32("fanotify_group_private_data.flags")
	if flags&fanotifyClasses != 0 {
		return 0, unlike("it is a fanotify file that decides what others may do (FAN_CLASS_CONTENT)")
	}
	syscall.ForkLock.RLock() // FAN_CLOEXEC is told, so it is not given
	defer syscall.ForkLock.RUnlock()
	n, err := linux.FanotifyInit(flags, data.U32("fanotify_group_private_data.f_flags"))
	if err == nil {
		unix.CloseOnExec(n)
	}
	return n, err
}

// notifying makes an inotify or fanotify file like another one. Events that come from
// then on come to both.
func (k *Maker) notifying(x *sockmem.Lone, numbered bool, make func(*group) (int, error), add func(int, string, *notifyMark) error) (*fd.FD, error) {
	was, err := k.groupAt(x.At, numbered)
	if err != nil {
		return nil, err
	}
	n, err := make(was)
	if err != nil {
		return nil, fmt.Errorf("make an inotify or fanotify file: %w", err)
	}
	own := fd.New(n)
	for i := range was.marks {
		if err = k.watch(n, &was.marks[i], add); err != nil {
			break
		}
	}
	if err == nil {
		err = k.watchesSame(x, own, was, numbered)
	}
	if err == nil {
		err = unix.SetNonblock(n, x.Flags&unix.O_NONBLOCK != 0)
	}
	if err != nil {
		return nil, errors.Join(err, own.Close())
	}
	return own, nil
}

// watch has a file watch what another one does.
func (k *Maker) watch(own int, m *notifyMark, add func(int, string, *notifyMark) error) error {
	at, err := k.marked(m)
	if err != nil {
		return err
	}
	defer at.Close()
	if err := add(own, fmt.Sprintf("/proc/self/fd/%d", at.Int()), m); err != nil {
		return unlike("it watches something that another one can't (%v)", err)
	}
	return nil
}

// watchesSame makes sure that a file watches what it is to, and that no events wait in the
// other one: those can't be put into this one.
func (k *Maker) watchesSame(x *sockmem.Lone, own *fd.FD, was *group, numbered bool) error {
	at, err := k.memory.File(own.Int())
	if err != nil {
		return err
	}
	is, err := k.groupAt(at, numbered)
	if err != nil {
		return err
	}
	if !slices.Equal(is.marks, was.marks) {
		return unlike("another one doesn't watch the same as it does")
	}
	if was, err = k.groupAt(x.At, numbered); err != nil {
		return err
	}
	if was.U32("fsnotify_group.q_len") != 0 {
		return unlike("events wait in it, an inotify or fanotify file")
	}
	return nil
}

// marked opens what a mark is on (O_PATH), a link itself.
func (k *Maker) marked(m *notifyMark) (*fd.FD, error) {
	if m.on == onMount {
		name, err := k.memory.MountPath(m.at)
		if err != nil {
			return nil, err
		}
		n, err := unix.Open(name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, unlike("it watches a mount that is elsewhere, %q (%v)", name, err)
		}
		return fd.New(n), nil
	}
	if own, err := k.Of(m.at); own != nil || err != nil {
		return own, err
	}
	within, err := k.memory.Within(m.at)
	if err != nil {
		return nil, err
	}
	names, err := k.mountedAt(m.at, within)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if own, err := k.isAt(name, m.at); own != nil || err != nil {
			return own, err
		}
	}
	return nil, unlike("it watches %q of a file system, which has no path that can be seen", within)
}

// isAt opens a path (O_PATH) if it leads to an inode, and returns nil else.
func (k *Maker) isAt(name string, inode kmem.Addr) (*fd.FD, error) {
	n, err := unix.Open(name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil //nolint:nilerr // there may be another path
	}
	own := fd.New(n)
	is, err := k.look(own)
	if err == nil && is.Inode == inode {
		return own, nil
	}
	return nil, errors.Join(err, own.Close())
}

// mountedAt returns the paths that lead to a path within the file system of an inode.
func (k *Maker) mountedAt(inode kmem.Addr, within string) (names []string, err error) {
	m := k.memory
	sb, err := m.Pointer(inode + m.Off("inode.i_sb"))
	if err != nil {
		return nil, err
	}
	dev, err := m.Pointer(sb + m.Off("super_block.s_dev")) // 4 bytes
	if err != nil {
		return nil, err
	}
	self, err := proc.Open(proc.PID(os.Getpid()))
	if err != nil {
		return nil, err
	}
	defer self.Close()
	all, err := proc.Mountinfo(self)
	if err != nil {
		return nil, err
	}
	for _, x := range all {
		below, ok := strings.CutPrefix(within, strings.TrimSuffix(x.Root, "/"))
		if ok && uint32(x.Major)<<20|uint32(x.Minor) == uint32(dev) && (below == "" || below[0] == '/') {
			names = append(names, path.Join(x.Mountpoint, below))
		}
	}
	return names, nil
}
