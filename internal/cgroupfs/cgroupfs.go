// Package cgroupfs reaches the hierarchies of cgroups (cgroups(7)) without
// regard to where, or whether, they are mounted.
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

// Hierarchy is a tree of cgroups, open at its root as the engine's cgroup
// namespace has it. Paths in it are absolute.
type Hierarchy struct {
	Name string // as /proc/PID/cgroup has it: "cpu,cpuacct", "name=systemd", "" for version 2
	root *fd.FD
}

// named is how the name of a hierarchy without controllers begins.
const named = "name="

// Open mounts a hierarchy nowhere. One with a name of its own that the kernel
// does not have comes into being; it stays as long as there is a cgroup in it.
//
// Of one that is about to go, as its last cgroup has, the kernel says that it is
// busy: then it comes into being anew a moment later.
func Open(name string) (h *Hierarchy, err error) {
	for range goneTries {
		if h, err = open(name); !errors.Is(err, unix.EBUSY) {
			break
		}
		time.Sleep(gonePause)
	}
	return h, err
}

// How often, and how long, a hierarchy is waited for that is about to go.
const (
	goneTries = 100
	gonePause = 10 * time.Millisecond
)

func open(name string) (*Hierarchy, error) {
	fstype := "cgroup"
	if name == "" {
		fstype = "cgroup2"
	}
	ctx, err := unix.Fsopen(fstype, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("fsopen %s: %w", fstype, err)
	}
	defer unix.Close(ctx) //nolint:errcheck // nothing is buffered
	if err := configure(ctx, name); err != nil {
		return nil, fmt.Errorf("hierarchy %s of cgroups: fsconfig: %w", Called(name), err)
	}
	root, err := unix.Fsmount(ctx, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("hierarchy %s of cgroups: fsmount: %w", Called(name), err)
	}
	return &Hierarchy{name, fd.New(root)}, nil
}

// configure says which hierarchy is meant. One that is to be made without
// controllers has to say so.
func configure(ctx int, name string) error {
	none := name != ""
	for part := range strings.SplitSeq(name, ",") {
		err := error(nil)
		if n, ok := strings.CutPrefix(part, named); ok {
			err = unix.FsconfigSetString(ctx, "name", n)
		} else if part != "" {
			none, err = false, unix.FsconfigSetFlag(ctx, part)
		}
		if err != nil {
			return err
		}
	}
	if none {
		if err := unix.FsconfigSetFlag(ctx, "none"); err != nil {
			return err
		}
	}
	return unix.FsconfigCreate(ctx)
}

// OpenIn opens a hierarchy that is mounted in a directory, by the name that
// criu's --cgroup-yard wants: its controllers, or its name, or "unified".
func OpenIn(yard, name string) (*Hierarchy, error) {
	dir := strings.ReplaceAll(name, named, "")
	if name == "" {
		dir = "unified"
	}
	n, err := unix.Open(filepath.Join(yard, dir), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("hierarchy %s of cgroups in %s: %w", Called(name), yard, err)
	}
	return &Hierarchy{name, fd.New(n)}, nil
}

// FD is a descriptor of its root, good for as long as it isn't closed.
func (h *Hierarchy) FD() int { return h.root.Int() }

// Close closes it.
func (h *Hierarchy) Close() error { return h.root.Close() }

// Called is how people call a hierarchy.
func Called(name string) string {
	if name == "" {
		return "cgroup2"
	}
	return name
}

// Checked returns an absolute path without anything in it that leads
// elsewhere, or an error.
func Checked(path string) (string, error) {
	if len(path) >= unix.PathMax || strings.ContainsRune(path, 0) {
		return "", errors.New("a path that can't be")
	}
	for part := range strings.SplitSeq(path, "/") {
		if part == ".." || part == "." {
			return "", fmt.Errorf("%q leads out of the hierarchy", path)
		}
	}
	return filepath.Join("/", path), nil
}

// Dir is an open cgroup.
type Dir struct {
	file *fd.FD
	what string
	in   *Hierarchy
	path string
}

// Again opens the same cgroup once more, or the one that has its path by now.
func (d *Dir) Again() (*Dir, error) { return d.in.Dir(d.path) }

// Close closes it.
func (d *Dir) Close() error { return d.file.Close() }

func (d *Dir) String() string { return d.what }

func (h *Hierarchy) called(path string) string {
	return fmt.Sprintf("cgroup %s of %s", path, Called(h.Name))
}

// relative is a path as *at(2) wants it.
func relative(path string) string { return "." + filepath.Join("/", path) }

// Dir opens a cgroup. The error is ENOENT if it does not exist.
func (h *Hierarchy) Dir(path string) (*Dir, error) {
	n, err := beneath(h.root.Int(), relative(path), unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", h.called(path), err)
	}
	return &Dir{fd.New(n), h.called(path), h, path}, nil
}

func beneath(dir int, path string, flags uint64) (int, error) {
	how := unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV}
	for {
		n, err := unix.Openat2(dir, path, &how)
		if err != unix.EAGAIN && err != unix.EINTR {
			return n, err
		}
	}
}

// Make makes a cgroup; its parent must be there.
func (h *Hierarchy) Make(path string) error {
	if err := unix.Mkdirat(h.root.Int(), relative(path), 0o755); err != nil {
		return fmt.Errorf("%s: make: %w", h.called(path), err)
	}
	return nil
}

// Remove removes a cgroup without processes and children. It is no error if it
// is gone.
func (h *Hierarchy) Remove(path string) error {
	err := unix.Unlinkat(h.root.Int(), relative(path), unix.AT_REMOVEDIR)
	if err != nil && err != unix.ENOENT {
		return fmt.Errorf("%s: remove: %w", h.called(path), err)
	}
	return nil
}
