package image

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// Dir is a checkpoint in a directory. The directory stays the one that was
// opened even if its path is renamed. Symbolic links in it are never followed,
// except "parent". A Dir may be used from several goroutines.
type Dir struct {
	f         *os.File
	overwrite bool
}

// DirOption changes how a Dir behaves.
type DirOption func(*Dir)

// Overwrite lets Create replace a file that exists, as criu does. The old file
// is unlinked, so other links to it keep their content.
func Overwrite() DirOption { return func(d *Dir) { d.overwrite = true } }

// OpenDir opens the directory path as a store. Close it after use.
func OpenDir(path string, opts ...DirOption) (*Dir, error) {
	fd, err := openat(unix.AT_FDCWD, path, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, fmt.Errorf("open image directory: %w", &os.PathError{Op: "open", Path: path, Err: err})
	}
	d := &Dir{f: os.NewFile(uintptr(fd), path)}
	for _, o := range opts {
		o(d)
	}
	return d, nil
}

// openDir opens a directory in the directory; a link is not followed.
func (d *Dir) openDir(name string) (*Dir, error) {
	fd, err := openat(int(d.f.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, d.pathError("open", name, err)
	}
	return &Dir{f: os.NewFile(uintptr(fd), d.String()+"/"+name)}, nil
}

// ErrRemoved is that a directory was removed while it was in use, so that nothing can be
// written into it any more.
var ErrRemoved = errors.New("the directory was removed meanwhile")

// removed tells whether the directory was.
func (d *Dir) removed() bool {
	var st unix.Stat_t
	return unix.Fstat(int(d.f.Fd()), &st) == nil && st.Nlink == 0
}

// openat is openat(2), close-on-exec, tried again when a signal interrupts it.
func openat(dirfd int, name string, flags int, mode uint32) (int, error) {
	for {
		fd, err := unix.Openat(dirfd, name, flags|unix.O_CLOEXEC, mode)
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}

// File returns the directory itself; it is still owned by the Dir.
func (d *Dir) File() *os.File { return d.f }

// String returns the path the directory was opened with.
func (d *Dir) String() string { return d.f.Name() }

// Close releases the directory. Files opened from it stay open.
func (d *Dir) Close() error { return d.f.Close() }

func (d *Dir) pathError(op, name string, err error) error {
	return &os.PathError{Op: op, Path: d.String() + "/" + name, Err: err}
}

// openFile opens one file of the directory itself, and nothing a link leads to.
func (d *Dir) openFile(name string, flags int) (*os.File, error) {
	if err := checkName(name); err != nil {
		return nil, d.pathError("open", name, err)
	}
	fd, err := d.openRaw(name, flags)
	if flags&unix.O_CREAT != 0 && errors.Is(err, unix.ENOENT) && d.removed() {
		err = ErrRemoved
	}
	if err != nil {
		return nil, d.pathError("open", name, err)
	}
	f := os.NewFile(uintptr(fd), d.String()+"/"+name)
	if _, err := regular(fd); err != nil {
		_ = f.Close() // the first error is the one that matters
		return nil, d.pathError("open", name, err)
	}
	return f, nil
}

// imageFlags open nothing that a link leads to, and don't wait for the writer of
// a FIFO by this name.
const imageFlags = unix.O_NOFOLLOW | unix.O_NONBLOCK

// linkError explains what imageFlags lead to.
func linkError(err error) error {
	if errors.Is(err, unix.ELOOP) {
		return errors.New("symbolic link refused, an image must be a regular file")
	}
	return err
}

func (d *Dir) openRaw(name string, flags int) (int, error) {
	if flags&unix.O_EXCL != 0 { // it is a new file, and nothing else
		return openat(int(d.f.Fd()), name, flags|unix.O_NOFOLLOW, 0o600)
	}
	fd, err := openat(int(d.f.Fd()), name, flags|imageFlags, 0o600)
	if err != nil {
		return -1, linkError(err)
	}
	// The descriptor may be lent to others, who expect a plain one.
	if err := unix.SetNonblock(fd, false); err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// regular makes sure that a file is one, and returns its size.
func regular(fd int) (int64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return 0, errors.New("not a regular file")
	}
	return st.Size, nil
}

// Create makes a new file; see [Store] and [Overwrite].
func (d *Dir) Create(name string) (WriteFile, error) {
	const flags = unix.O_RDWR | unix.O_CREAT | unix.O_EXCL
	f, err := d.openFile(name, flags)
	if d.overwrite && errors.Is(err, os.ErrExist) {
		if err := d.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		f, err = d.openFile(name, flags)
	}
	if err != nil {
		return nil, err
	}
	return dirFile{f: f}, nil
}

// Open opens a file for reading; see [Store].
func (d *Dir) Open(name string) (ReadFile, error) {
	f, err := d.openFile(name, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err != nil {
		_ = f.Close() // the first error is the one that matters
		return nil, err
	}
	return dirFile{f: f, size: st.Size()}, nil
}

// List returns the names of the regular files, sorted. A directory that was removed
// has none.
func (d *Dir) List() ([]string, error) {
	// A descriptor of its own: the position of d.f is shared.
	fd, err := openat(int(d.f.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, d.pathError("list", ".", err)
	}
	f := os.NewFile(uintptr(fd), d.String())
	defer f.Close() //nolint:errcheck // only read from
	entries, err := f.ReadDir(-1)
	if errors.Is(err, unix.ENOENT) && d.removed() {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	var names []string
	for _, e := range entries {
		if e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

// Remove unlinks a file.
func (d *Dir) Remove(name string) error {
	if err := checkName(name); err != nil {
		return d.pathError("remove", name, err)
	}
	if err := unix.Unlinkat(int(d.f.Fd()), name, 0); err != nil {
		return d.pathError("remove", name, err)
	}
	return nil
}

// Sync is fsync(2) of the directory.
func (d *Dir) Sync() error { return d.f.Sync() }

// dirFile is a file of a Dir, for reading or for writing.
type dirFile struct {
	f    *os.File
	size int64
}

func (d dirFile) Write(p []byte) (int, error)              { return d.f.Write(p) }
func (d dirFile) WriteAt(p []byte, off int64) (int, error) { return d.f.WriteAt(p, off) }
func (d dirFile) ReadAt(p []byte, off int64) (int, error)  { return d.f.ReadAt(p, off) }
func (d dirFile) Sync() error                              { return d.f.Sync() }
func (d dirFile) Close() error                             { return d.f.Close() }
func (d dirFile) File() *os.File                           { return d.f }
func (d dirFile) Size() int64                              { return d.size }
