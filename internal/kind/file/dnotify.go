package file

import (
	"errors"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/scan"
)

// Who asks for signals when something happens in a directory (F_NOTIFY in fcntl(2),
// dnotify) is told by nothing but the kernel's memory. That also makes it the owner of
// the descriptor, which has no other use at a directory: without an owner nobody looks.

// notifyNames are the members of the kernel's structures that are read for that. A kernel
// may be built without dnotify. They are not with those of other kinds, as it takes longer
// to find them.
var notifyNames = []string{
	"file.f_inode", "?inode.i_fsnotify_marks", "?fsnotify_mark_connector", "?fsnotify_mark_connector.list",
	"?fsnotify_mark", "?fsnotify_mark.obj_list", "?dnotify_mark", "?dnotify_mark.dn",
	"?dnotify_struct", "?dnotify_struct.dn_filp", "?dnotify_struct.dn_next",
}

// Close implements kind.Closer.
func (k *Regular) Close() error { return k.memory.Close() }

// noNotify refuses a directory with an owner that asks for signals.
func (k *Regular) noNotify(f *scan.File, d *fd.FD) error {
	if f.Stat.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil
	}
	asks, err := k.notifies(d)
	if err != nil {
		return kind.Unsupported(f, "it is a directory with an owner (F_SETOWN), as who asks for signals of changes in it has (F_NOTIFY), which can't be saved, and nobody tells whether it does: %v; close it", err)
	}
	if asks {
		return kind.Unsupported(f, "it asks for signals when something changes in that directory (F_NOTIFY in fcntl(2)), which can't be saved yet; let the program take that back (F_NOTIFY with 0), or use inotify")
	}
	return nil
}

// mostMarks is more than there are of one directory, or of one mark.
const mostMarks = 1 << 16

// notifies tells whether a directory's descriptor asks for signals.
func (k *Regular) notifies(d *fd.FD) (bool, error) {
	if k.memory == nil {
		k.memory = kmem.Share(notifyNames...)
	}
	r, err := k.memory.Reader()
	if err != nil {
		return false, err
	}
	for _, n := range notifyNames[1:] {
		if !r.Has(n[1:]) {
			return false, nil // no dnotify
		}
	}
	file, err := r.File(d.Int())
	if err != nil {
		return false, err
	}
	at := file
	for _, n := range []string{"file.f_inode", "inode.i_fsnotify_marks"} {
		if at, err = r.Pointer(at + r.Off(n)); err != nil {
			return false, err
		}
	}
	if at == 0 {
		return false, nil
	}
	node, err := r.Pointer(at + r.Off("fsnotify_mark_connector.list"))
	for n := 0; err == nil && node != 0; n++ {
		if n == mostMarks {
			return false, errors.New("more is watched than can be")
		}
		if asked(r, node-r.Off("fsnotify_mark.obj_list"), file) {
			return true, nil
		}
		node, err = r.Pointer(node)
	}
	return false, err
}

// asked tells whether a mark, if it is one of dnotify, has a file. One of inotify has a
// number where that has an address.
func asked(r *kmem.Reader, mark, file kmem.Addr) bool {
	at, err := r.Pointer(mark + r.Off("dnotify_mark.dn"))
	for n := 0; err == nil && at != 0 && n < mostMarks; n++ {
		var of kmem.Addr
		if of, err = r.Pointer(at + r.Off("dnotify_struct.dn_filp")); err == nil && of == file {
			return true
		}
		if err == nil {
			at, err = r.Pointer(at + r.Off("dnotify_struct.dn_next"))
		}
	}
	return false
}
