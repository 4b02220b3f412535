package cgroupfs

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
)

// Freezer is a cgroup whose tasks can all be stopped at once: one of version 2,
// or of the freezer controller of version 1.
type Freezer struct {
	dir  *Dir
	path string
	v2   bool
	Was  bool // it was frozen when it was opened
}

// States of a cgroup of version 1, in freezer.state.
const (
	Frozen = "FROZEN"
	Thawed = "THAWED"
)

// OpenFreezer opens a cgroup by its path in the file system. It must not be a
// root: that can't be frozen.
func OpenFreezer(path string) (*Freezer, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	n, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cgroup %s: %w", path, err)
	}
	f := &Freezer{dir: &Dir{file: fd.New(n), what: "cgroup " + path}, path: path}
	if _, err = f.dir.Read("cgroup.freeze"); err == nil {
		f.v2 = true
	} else if _, err2 := f.dir.Read("freezer.state"); err2 != nil {
		if !errors.Is(err, unix.ENOENT) || !errors.Is(err2, unix.ENOENT) {
			return nil, errors.Join(err, err2, f.Close())
		}
		return nil, errors.Join(fmt.Errorf("%v can't be frozen: it is neither one of version 2, but the root, nor of the freezer controller of version 1", f.dir), f.Close())
	}
	if f.Was, err = f.asked(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Close closes it. It does nothing for nil.
func (f *Freezer) Close() error {
	if f == nil {
		return nil
	}
	return f.dir.Close()
}

// Path is where it was opened.
func (f *Freezer) Path() string { return f.path }

// asked tells whether the cgroup was told to freeze.
func (f *Freezer) asked() (bool, error) {
	if f.v2 {
		s, err := f.dir.Read("cgroup.freeze")
		return s == "1", err
	}
	s, err := f.dir.Read("freezer.state")
	return s != Thawed, err
}

// Set freezes the cgroup, or lets it go, without waiting for what comes of it.
func (f *Freezer) Set(frozen bool) error {
	switch {
	case f.v2 && frozen:
		return f.dir.Write("cgroup.freeze", "1")
	case f.v2:
		return f.dir.Write("cgroup.freeze", "0")
	case frozen:
		return f.dir.Write("freezer.state", Frozen)
	}
	return f.dir.Write("freezer.state", Thawed)
}

// Await waits until all tasks of a cgroup that was told to freeze stand still.
// ended is asked again and again, and ends it with an error. Nobody tells of it in
// version 1.
func (f *Freezer) Await(ended func() error) error {
	for {
		if err := ended(); err != nil {
			return err
		}
		still, err := f.still()
		if err != nil || still {
			return err
		}
		time.Sleep(200 * time.Microsecond)
	}
}

func (f *Freezer) still() (bool, error) {
	if f.v2 {
		s, err := f.dir.Read("cgroup.events")
		return strings.Contains(s, "frozen 1"), err
	}
	s, err := f.dir.Read("freezer.state")
	return s == Frozen, err
}

// Empty tells whether no process is in it.
func (f *Freezer) Empty() bool {
	s, err := f.dir.Read("cgroup.procs")
	return err == nil && s == ""
}

// Property is what says in which state it was before, if d is this cgroup; "" if
// not. It does nothing for nil.
func (f *Freezer) Property(d *Dir) (name, value string) {
	if f == nil || !sameFile(f.dir, d) {
		return "", ""
	}
	switch {
	case f.v2 && f.Was:
		return "cgroup.freeze", "1"
	case f.v2:
		return "cgroup.freeze", "0"
	case f.Was:
		return "freezer.state", Frozen
	}
	return "freezer.state", Thawed
}

func sameFile(a, b *Dir) bool {
	var x, y unix.Stat_t
	return unix.Fstat(a.file.Int(), &x) == nil && unix.Fstat(b.file.Int(), &y) == nil && x.Dev == y.Dev && x.Ino == y.Ino
}
