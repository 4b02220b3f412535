package file

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/criu/regfile"
	"glis.dev/glis/image/protowire"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/scan"
)

// Who asks for signals when something happens in a directory (F_NOTIFY in fcntl(2),
// dnotify) is told by nothing but the kernel's memory. That also makes it the owner of
// the descriptor, which has no other use at a directory: without an owner nobody looks.
// It is the process that asks, by one of its descriptors, which signals name (si_fd); so
// a restored one asks again, when all else is done.

// notifyNames are the members of the kernel's structures that are read for that. A kernel
// may be built without dnotify. They are not with those of other kinds, as it takes longer
// to find them.
var notifyNames = []string{
	"file.f_inode", "?inode.i_fsnotify_marks", "?fsnotify_mark_connector", "?fsnotify_mark_connector.list",
	"?fsnotify_mark", "?fsnotify_mark.obj_list", "?fsnotify_mark.group", "?dnotify_mark", "?dnotify_mark.dn",
	"?dnotify_struct", "?dnotify_struct.dn_filp", "?dnotify_struct.dn_next",
	"?dnotify_struct.dn_mask", "?dnotify_struct.dn_fd", "?dnotify_struct.dn_owner",
}

// Close implements kind.Closer.
func (k *Regular) Close() error {
	return errors.Join(k.memory.Close(), k.pressure.Close(), k.log.Close(), k.tracing.Close())
}

// dumpNotify notes who asks for signals by a directory with an owner.
func (k *Regular) dumpNotify(f *scan.File, d *fd.FD, e *regfile.RegFileEntry) error {
	if f.Stat.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil
	}
	all, err := k.notices(f, d)
	if err != nil {
		return kind.Unsupported(f, "it is a directory with an owner (F_SETOWN), as who asks for signals of changes in it has (F_NOTIFY), and nobody tells whether it does: %v; close it", err)
	}
	var b []byte
	for _, n := range all {
		args, ok := n.args()
		switch {
		case n.by == nil:
			return kind.Unsupported(f, "a process outside of the tree asks for signals by it when something changes in that directory (F_NOTIFY in fcntl(2)); dump that, too, or let it take that back (F_NOTIFY with 0)")
		case !ok:
			return kind.Unsupported(f, "it asks for signals when something changes in that directory (F_NOTIFY in fcntl(2)) that this Glis does not know (mask %#x); use a newer one, or let the program take that back (F_NOTIFY with 0)", n.mask)
		}
		for _, v := range []uint64{uint64(n.by.Task.VPID), uint64(n.by.FD), uint64(args)} {
			b = protowire.AppendVarint(b, v)
		}
	}
	if b != nil {
		putBytes(e, regNotify, b)
	}
	return nil
}

// notice is what somebody asks for by a directory's descriptor.
type notice struct {
	by   *scan.User // nil: nobody of the tree
	mask uint32     // FS_* of linux/fsnotify_backend.h
}

// What F_NOTIFY is given for bits of a mask: see convert_arg() in
// fs/notify/dnotify/dnotify.c. Some stand for two.
var noticeBits = []struct{ mask, arg uint32 }{
	{0x0000_0001, linux.DN_ACCESS},
	{0x0000_0002, linux.DN_MODIFY},
	{0x0000_0004, linux.DN_ATTRIB},
	{0x0000_0040 | 0x0000_0200, linux.DN_DELETE}, // FS_MOVED_FROM, FS_DELETE
	{0x0000_0080 | 0x0000_0100, linux.DN_CREATE}, // FS_MOVED_TO, FS_CREATE
	{0x0800_0000, 0},                             // FS_EVENT_ON_CHILD, which all have
	{0x1000_0000, linux.DN_RENAME},
	{0x2000_0000, linux.DN_MULTISHOT},
}

// args returns what F_NOTIFY was given. ok is false if there is more.
func (n notice) args() (args uint32, ok bool) {
	left := n.mask
	for _, b := range noticeBits {
		if left&b.mask == b.mask {
			left, args = left&^b.mask, args|b.arg
		}
	}
	return args, left == 0
}

// mostMarks is more than there are of one directory, or of one mark.
const mostMarks = 1 << 16

// notices returns what is asked for by a directory's open file.
func (k *Regular) notices(f *scan.File, d *fd.FD) ([]notice, error) {
	if k.memory == nil {
		k.memory = kmem.Share(notifyNames...)
	}
	r, err := k.memory.Reader()
	if err != nil {
		return nil, err
	}
	for _, n := range notifyNames[1:] {
		if !r.Has(n[1:]) {
			return nil, nil // no dnotify
		}
	}
	file, err := r.File(d.Int())
	if err != nil {
		return nil, err
	}
	marked := false // by whomever: where nobody watches, nobody needs to ask
	err = eachMark(r, file, func(kmem.Addr) error { marked = true; return nil })
	if err != nil || !marked {
		return nil, err
	}
	if k.notifiers == 0 {
		if k.notifiers, err = findNotifiers(r); err != nil {
			return nil, err
		}
	}
	var out []notice
	err = eachMark(r, file, func(mark kmem.Addr) error {
		group, err := r.Pointer(mark + r.Off("fsnotify_mark.group"))
		if err != nil || group != k.notifiers {
			return err
		}
		return eachNotice(r, mark, func(s *kmem.Struct) error {
			if s.Pointer("dnotify_struct.dn_filp") != file {
				return nil
			}
			by, err := askedBy(r, f, s.Pointer("dnotify_struct.dn_owner"), int32(s.U32("dnotify_struct.dn_fd")))
			out = append(out, notice{by, s.U32("dnotify_struct.dn_mask")})
			return err
		})
	})
	return out, err
}

// findNotifiers returns where the kernel has the group of all marks of dnotify: that of
// one of our own, at a directory that nobody else has. Nobody is told of anything there.
func findNotifiers(r *kmem.Reader) (kmem.Addr, error) {
	n, err := unix.Open("/proc/self/fdinfo", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(n) //nolint:errcheck // nothing was written
	if _, err := unix.FcntlInt(uintptr(n), unix.F_NOTIFY, linux.DN_RENAME|linux.DN_MULTISHOT); err != nil {
		return 0, fmt.Errorf("F_NOTIFY (is fs.dir-notify-enable 0?): %w", err)
	}
	if _, err := unix.FcntlInt(uintptr(n), unix.F_SETOWN, 0); err != nil {
		return 0, fmt.Errorf("F_SETOWN: %w", err)
	}
	file, err := r.File(n)
	if err != nil {
		return 0, err
	}
	var group kmem.Addr
	err = eachMark(r, file, func(mark kmem.Addr) error {
		// One of another group has something else where this looks.
		_ = eachNotice(r, mark, func(s *kmem.Struct) (err error) {
			if s.Pointer("dnotify_struct.dn_filp") == file {
				group, err = r.Pointer(mark + r.Off("fsnotify_mark.group"))
			}
			return err
		})
		return nil
	})
	if err == nil && group == 0 {
		err = errors.New("what Glis itself asks for by F_NOTIFY isn't found")
	}
	return group, err
}

// eachMark calls fn with every mark of the inode of a file.
func eachMark(r *kmem.Reader, file kmem.Addr, fn func(mark kmem.Addr) error) (err error) {
	at := file
	for _, n := range []string{"file.f_inode", "inode.i_fsnotify_marks"} {
		if at, err = r.Pointer(at + r.Off(n)); err != nil {
			return err
		}
	}
	if at == 0 {
		return nil
	}
	node, err := r.Pointer(at + r.Off("fsnotify_mark_connector.list"))
	for n := 0; err == nil && node != 0; n++ {
		if n == mostMarks {
			return errors.New("more is watched than can be")
		}
		if err = fn(node - r.Off("fsnotify_mark.obj_list")); err == nil {
			node, err = r.Pointer(node)
		}
	}
	return err
}

// eachNotice calls fn with everything that a mark of dnotify stands for.
func eachNotice(r *kmem.Reader, mark kmem.Addr, fn func(*kmem.Struct) error) error {
	at, err := r.Pointer(mark + r.Off("dnotify_mark.dn"))
	for n := 0; err == nil && at != 0; n++ {
		if n == mostMarks {
			return errors.New("more is asked for than can be")
		}
		var s *kmem.Struct
		if s, err = r.Struct("dnotify_struct", at); err != nil {
			return err
		}
		err, at = fn(s), s.Pointer("dnotify_struct.dn_next")
	}
	return err
}

// askedBy returns whose descriptor was used to ask, nil if nobody of the tree has a
// table of descriptors that is there.
func askedBy(r *kmem.Reader, f *scan.File, table kmem.Addr, n int32) (*scan.User, error) {
	for i, u := range f.Users {
		if u.FD != n {
			continue
		}
		task, err := r.Task(u.Task.Pidfd.Int())
		if err != nil {
			return nil, err
		}
		if its, err := r.Pointer(task + r.Off("task_struct.files")); err != nil || its == table {
			return &f.Users[i], err
		}
	}
	return nil, nil
}

// asking is a descriptor of a task that asks for signals.
type asking struct {
	task uint32
	fd   int32
	args uint32 // DN_*
}

// readNotices reads who asks for signals by a directory.
func readNotices(e *regfile.RegFileEntry) ([]asking, error) {
	_, b, ok := extra(e, regNotify)
	if !ok {
		return nil, nil
	}
	if e.GetMode()&unix.S_IFMT != unix.S_IFDIR || e.GetFlags()&unix.O_PATH != 0 {
		return nil, fmt.Errorf("%s asks for signals of changes, and is no open directory", e.GetName())
	}
	var out []asking
	for len(b) > 0 {
		var v [3]uint64
		for i := range v {
			size := 0
			if v[i], size = protowire.ConsumeVarint(b); size < 0 || v[i] > 1<<32-1 {
				return nil, fmt.Errorf("%s: who asks for signals of changes can't be read", e.GetName())
			}
			b = b[size:]
		}
		out = append(out, asking{uint32(v[0]), int32(v[1]), uint32(v[2])})
	}
	return out, nil
}

// checkNotices makes sure that who asks has the descriptor that it asks by.
func (n *regularNode) checkNotices() error {
	for _, a := range n.has().asks {
		if !slices.ContainsFunc(n.plan.Users(n.id), func(u plan.Use) bool { return u.Task == a.task && u.FD == a.fd }) {
			return entryError(&fdinfo.FileEntry{Id: (*uint32)(&n.id)}, "%s: process %d asks for signals by descriptor %d, which is not that", n.name, a.task, a.fd)
		}
	}
	return nil
}

// Asked implements plan.Asker.
func (n *regularNode) Asked() []plan.Use {
	var out []plan.Use
	for _, a := range n.has().asks {
		out = append(out, plan.Use{Task: a.task, FD: a.fd})
	}
	return out
}

// Ask implements plan.Asker. The owner is there already, and stays.
func (n *regularNode) Ask(b plan.Batcher, i int) {
	a := n.has().asks[i]
	b.Add(fmt.Sprintf("fcntl(%d, F_NOTIFY, %#x) at %s", a.fd, a.args, n.name), unix.SYS_FCNTL, uint64(a.fd), unix.F_NOTIFY, uint64(a.args))
}
