package file

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
)

// A deleted file is made where it was. The directories there may be gone, too,
// and are made for a moment. One may have left its name to something else: a file,
// or a link that leads elsewhere. Another one is made beside that then, so that the
// file is on the same file system, and nobody else's directory is written to.

// stood tells how much of a deleted file's path leads to a directory that it may
// still be in. What is behind that is gone, even if the name leads to a directory.
func stood(name string) int {
	dir := path.Dir(name)
	for dir != "/" && !isRealDir(dir) {
		dir = path.Dir(dir)
	}
	return len(dir)
}

// isRealDir tells whether a path leads to a directory, and by no link.
func isRealDir(name string) bool {
	d, err := realDir(name)
	return err == nil && d.Close() == nil
}

// ghostPlaces are where the names of a deleted file are, for as long as it is made.
type ghostPlaces struct {
	dirs map[string]string // what takes the place of the directories that the names have
	made []string          // those that were not there, the deepest last
}

// of returns the path that takes the place of a name.
func (p *ghostPlaces) of(name string) string {
	dir, base := path.Split(name)
	return p.dirs[dir] + base
}

// find finds the directory of a name, or makes it. Up to stood the path led to
// directories when the file was dumped: a link there is followed.
func (p *ghostPlaces) find(name string, stood int) error {
	dir, _ := path.Split(name)
	if _, ok := p.dirs[dir]; ok {
		return nil
	}
	at := ""
	for part := range strings.SplitSeq(strings.Trim(dir, "/"), "/") {
		if part == "" {
			continue
		}
		flags := 0
		if at += "/" + part; len(at) > stood {
			flags = unix.AT_SYMLINK_NOFOLLOW
		}
		var err error
		if at, err = p.enter(at, flags); err != nil {
			return fmt.Errorf("make %s, where it was: %w", at, err)
		}
	}
	if p.dirs == nil {
		p.dirs = map[string]string{}
	}
	p.dirs[dir] = at + "/"
	return nil
}

// enter returns a directory, or makes it: beside what has its name if that is
// something else. Nobody else is to use it.
func (p *ghostPlaces) enter(dir string, flags int) (string, error) {
	var st unix.Stat_t
	err := unix.Fstatat(unix.AT_FDCWD, dir, &st, flags)
	if err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return dir, nil
	}
	if err == nil {
		err = unix.EEXIST
	} else if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ELOOP) {
		err = unix.Mkdir(dir, 0o700) // a link that leads nowhere is in the way, too
	}
	if errors.Is(err, unix.EEXIST) {
		var beside string
		if beside, err = tempName(dir, func(temp string) error { return unix.Mkdir(temp, 0o700) }); err == nil {
			dir = beside
		}
	}
	if err == nil {
		p.made = append(p.made, dir)
	}
	return dir, err
}

// leave removes the directories that were made, the deepest first.
func (p *ghostPlaces) leave() error {
	var errs []error
	for _, dir := range slices.Backward(p.made) {
		if err := unix.Rmdir(dir); err != nil {
			errs = append(errs, fmt.Errorf("remove %s again: %w", dir, err))
		}
	}
	return errors.Join(errs...)
}

// newNameless makes a file without a name beside path, with these flags, too, or, where the file
// system can't, one with that name, or, if somebody else's file has it, one that nobody has.
func newNameless(name string, flags int) (d *fd.FD, named string, err error) {
	num, err := unix.Open(path.Dir(name), unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC|flags, 0o600)
	if err == nil {
		return fd.New(num), "", nil
	}
	if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.ENOENT) {
		return nil, "", fmt.Errorf("in %s: %w", path.Dir(name), err)
	}
	return newNamed(name, flags)
}

// newNamed makes a file that has its name from the beginning: many file systems that can't do
// otherwise have no hard links either, or take two for different files (FUSE, vfat).
func newNamed(name string, flags int) (d *fd.FD, named string, err error) {
	var num int
	create := func(at string) (err error) {
		num, err = unix.Open(at, unix.O_CREAT|unix.O_EXCL|unix.O_RDWR|unix.O_CLOEXEC|flags, 0o600)
		return err
	}
	if err = create(name); errors.Is(err, unix.EEXIST) {
		name, err = tempName(name, create)
	}
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", name, err)
	}
	return fd.New(num), name, nil
}

// tempName calls create with names beside path until one is free.
func tempName(name string, create func(string) error) (string, error) {
	dir, base := path.Split(name)
	short := dir + base[:min(len(base), unix.NAME_MAX-len(".glis-999"))]
	for i := range 1000 {
		temp := fmt.Sprintf("%s.glis-%d", short, i)
		err := create(temp)
		if err == nil {
			return temp, nil
		}
		if !errors.Is(err, unix.EEXIST) {
			return "", fmt.Errorf("%s: %w", temp, err)
		}
	}
	return "", fmt.Errorf("%s.glis-…: a thousand of these are there already; remove them", short)
}
