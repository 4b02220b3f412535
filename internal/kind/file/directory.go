package file

import (
	"path"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
)

// directories are those that files of a restore are in, by path. Where many are in
// one, the way there is gone once.
type directories struct {
	all  map[string]*directory
	last *directory
	open atomic.Int32
}

const (
	// manyFiles is from how many files on a directory is opened for them.
	manyFiles = 32
	// mostOpen is how many directories are open at a time.
	mostOpen = 100
)

// directory is one of them. A nil one is good for a file that has none.
type directory struct {
	set   *directories
	name  string // with a slash at its end
	files int
	left  atomic.Int32 // files that are not opened yet

	once sync.Once
	own  *fd.FD // nil: few files are in it, or it can't be opened
	// near says that it is on a file system where no call waits for somebody else:
	// the kernel can be called without Go's scheduler being told.
	near bool
	// listed is what it says of its files, once somebody has read it.
	listed atomic.Pointer[listing]
	lists  atomic.Bool   // somebody does, or has
	read   chan struct{} // closed when that has come to its end
}

// of counts a file, and returns where it is.
func (k *directories) of(name string) *directory {
	dir, base := path.Split(name)
	if base == "" {
		return nil
	}
	if k.last == nil || k.last.name != dir {
		if k.all == nil {
			k.all = map[string]*directory{}
		}
		if k.all[dir] == nil {
			k.all[dir] = &directory{set: k, name: dir}
		}
		k.last = k.all[dir]
	}
	k.last.files++
	k.last.left.Add(1)
	return k.last
}

// place returns from where, and by which name, a file of it is found. done must
// follow.
func (d *directory) place(name string) (at int, short string) {
	if d == nil || d.files < manyFiles {
		return unix.AT_FDCWD, name
	}
	d.once.Do(d.open)
	if d.own == nil || d.own.Int() < 0 {
		return unix.AT_FDCWD, name
	}
	if d.claim() {
		d.list()
	}
	return d.own.Int(), name[len(d.name):]
}

// claim tells whether the caller is to read what it says of its files.
func (d *directory) claim() bool {
	return d.near && d.files >= manyTogether && d.lists.CompareAndSwap(false, true)
}

// list reads it.
func (d *directory) list() {
	d.listed.Store(list(d.own.Int(), d.files))
	close(d.read)
}

// await waits for who reads what it says, if somebody does.
func (d *directory) await() {
	if d.lists.Load() {
		<-d.read
	}
}

// plain tells whether what is in it by this name is known to be a regular file.
func (d *directory) plain(at int, short string) bool {
	return at != unix.AT_FDCWD && d.near && d.listed.Load().has(short)
}

// open opens it. If that fails, what fails by the whole path says why.
func (d *directory) open() {
	if d.set.open.Add(1) <= mostOpen {
		if n, err := unix.Open(d.name, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err == nil {
			d.own, d.near, d.read = fd.New(n), near(n), make(chan struct{})
			return
		}
	}
	d.set.open.Add(-1)
}

// near tells whether what is in an open directory is on this machine for sure.
func near(dir int) bool {
	var st unix.Statfs_t
	if unix.Fstatfs(dir, &st) != nil {
		return false
	}
	switch st.Type {
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.TMPFS_MAGIC:
		return true
	}
	return false
}

// done counts a file as opened.
func (d *directory) done() {
	if d != nil && d.left.Add(-1) == 0 {
		d.close()
	}
}

// close closes it.
func (d *directory) close() {
	if d != nil && d.own != nil && d.own.Int() >= 0 {
		_ = d.own.Close() // nothing is buffered
		d.set.open.Add(-1)
	}
}
