package image

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ParentLink is the symbolic link in an incremental checkpoint's directory to
// the directory of the checkpoint it builds on.
const ParentLink = "parent"

// maxChain is how many checkpoints may build on one another.
const maxChain = 1024

// Parent opens the checkpoint that this one builds on. The link may be relative
// to the directory, lead out of it, or be absolute. Without one the error is
// [ErrNoParent]; a link to nowhere is another error. Close the result after use.
func (d *Dir) Parent() (*Dir, error) {
	var st unix.Stat_t
	err := unix.Fstatat(int(d.f.Fd()), ParentLink, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return nil, d.pathError("open", ParentLink, ErrNoParent)
	}
	if err != nil {
		return nil, d.pathError("stat", ParentLink, err)
	}
	fd, err := openat(int(d.f.Fd()), ParentLink, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, d.pathError("open", ParentLink, fmt.Errorf("the parent checkpoint is not where the link says: %w", err))
	}
	return &Dir{f: os.NewFile(uintptr(fd), d.String()+"/"+ParentLink)}, nil
}

// SetParent makes the link to the checkpoint that this one builds on. target is
// relative to the directory, or absolute. A link that exists is left alone, as
// criu does.
func (d *Dir) SetParent(target string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(int(d.f.Fd()), target, &st, 0); err != nil {
		return fmt.Errorf("parent checkpoint: %w", d.pathError("stat", target, err))
	}
	err := unix.Symlinkat(target, int(d.f.Fd()), ParentLink)
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return d.pathError("symlink", ParentLink, err)
	}
	return nil
}

// identity tells directories apart, however they were opened.
func (d *Dir) identity() (dirID, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(d.f.Fd()), &st); err != nil {
		return dirID{}, d.pathError("stat", ".", err)
	}
	return dirID{dev: st.Dev, ino: st.Ino}, nil
}

type dirID struct{ dev, ino uint64 }

// chain walks from a checkpoint to its parents.
type chain struct {
	at    Store
	owned *Dir // of at, if the chain opened it
	seen  map[dirID]bool
	depth int
}

// parented is a store that can have a parent: a Dir, or what checks one.
type parented interface {
	// parent opens the parent; the directory is what has to be closed.
	parent() (Store, *Dir, error)
	identity() (dirID, error)
}

func (d *Dir) parent() (Store, *Dir, error) {
	p, err := d.Parent()
	return p, p, err
}

// up moves to the parent of where the chain is; ErrNoParent is the end.
func (c *chain) up() error {
	at, ok := c.at.(parented)
	if !ok {
		return fmt.Errorf("%s: %w", c.at, ErrNoParent)
	}
	if err := c.visit(at); err != nil {
		return err
	}
	parent, owned, err := at.parent()
	c.close()
	if err != nil {
		return err
	}
	c.at, c.owned = parent, owned
	return nil
}

func (c *chain) visit(at parented) error {
	id, err := at.identity()
	if err != nil {
		return err
	}
	if c.seen[id] {
		return fmt.Errorf("%s: parent checkpoints form a circle", c.at)
	}
	if c.depth++; c.depth > maxChain {
		return fmt.Errorf("%s: more than %d parent checkpoints", c.at, maxChain)
	}
	if c.seen == nil {
		c.seen = make(map[dirID]bool)
	}
	c.seen[id] = true
	return nil
}

func (c *chain) close() {
	if c.owned != nil {
		_ = c.owned.Close() // a directory that was only read
		c.owned = nil
	}
}
