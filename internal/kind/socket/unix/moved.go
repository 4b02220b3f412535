package unix

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	sys "golang.org/x/sys/unix"
)

// bindMoved binds the socket to a name that doesn't lead to its file: in a
// directory beside the place where the file is to be, which it is then moved
// to.
func (a *address) bindMoved(fd int) (err error) {
	places := append([]string{a.file.GetPath()}, a.file.GetLinks()...)
	for _, p := range places {
		if err := (&address{name: []byte(p)}).clear(); err != nil {
			return err
		}
	}
	dir, err := os.MkdirTemp(filepath.Dir(places[0]), ".glis-")
	if err != nil {
		return fmt.Errorf("make a directory to bind to %v in, beside %q (make that as it was at the dump): %w", a, places[0], err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := (&address{root: dir}).inPlace(func() error { return bindFresh(fd, a.name) }); err != nil {
		return err
	}
	file, err := boundFile(fd)
	if err != nil {
		return err
	}
	defer file.Close()
	at, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", file.Int()))
	if err != nil {
		return fmt.Errorf("look where the file of %v is: %w", a, err)
	}
	if err := (&address{name: []byte(at), perms: a.perms}).setPerms(); err != nil {
		return err
	}
	if err := sys.Rename(at, places[0]); err != nil {
		return fmt.Errorf("move the file of %v to %q: %w", a, places[0], err)
	}
	for _, p := range places[1:] {
		if err := sys.Link(places[0], p); err != nil {
			return fmt.Errorf("give the file of %v its other name %q: %w", a, p, err)
		}
	}
	return nil
}
