package file

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
)

// A deleted file has its names for a moment, so that it can be opened by them. Others may
// write to the directory, and change what has the name at that moment.

// link gives a file one of its names, and returns where that is. If somebody else's file
// has that by now it gets one beside it, which is not its own, if it has to be opened by
// a name; else none. Nor does a file that never had any and may get one yet (see O_TMPFILE).
func (s *ghostSet) link(d *fd.FD, name string) (at string, own bool, err error) {
	if slices.ContainsFunc(s.nodes, (*regularNode).unborn) {
		return "", false, nil
	}
	give := func(at string) error {
		return unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", d.Int()), unix.AT_FDCWD, at, unix.AT_SYMLINK_FOLLOW)
	}
	at = s.places.of(name)
	if at == s.named {
		return at, true, nil
	}
	err = give(at)
	if errors.Is(err, unix.EEXIST) {
		if !slices.ContainsFunc(s.nodes, func(n *regularNode) bool { return s.early(n, name) }) {
			return "", false, nil
		}
		at, err = tempName(at, give)
		return at, false, err
	}
	if err != nil {
		return "", false, fmt.Errorf("name it %s: %w", name, err)
	}
	return at, true, nil
}

// unname deletes a name of a file again, unless that is another one's by now.
func unname(d *fd.FD, at string, remove func(string) error) error {
	var its, st unix.Stat_t
	err := errors.Join(unix.Fstat(d.Int(), &its), unix.Lstat(at, &st))
	if err == nil && (its.Dev != st.Dev || its.Ino != st.Ino) {
		return nil
	}
	if err == nil {
		err = remove(at)
	}
	if err != nil {
		return fmt.Errorf("delete %s again: %w", at, err)
	}
	return nil
}

// early tells whether a node is opened by a name, as who said not to follow a link there
// (O_NOFOLLOW): by a handle nothing can be opened so.
func (s *ghostSet) early(n *regularNode, name string) bool {
	mode := s.head.GetMode() & unix.S_IFMT
	simple := mode == unix.S_IFREG || mode == unix.S_IFDIR || n.flags&unix.O_PATH != 0
	return n.flags&unix.O_NOFOLLOW != 0 && n.name == name && simple
}

// openEarly opens a file, of which there is a descriptor, by its name for those who want
// that. A FIFO that somebody has put there meanwhile is not waited for.
func (s *ghostSet) openEarly(d *fd.FD, name, at string) error {
	for _, n := range s.nodes {
		if !s.early(n, name) {
			continue
		}
		flags := n.openFlags()
		if flags&unix.O_PATH == 0 {
			flags |= unix.O_NONBLOCK // ready sets it as it was
		}
		var err error
		if n.also().early, err = openSame(d, at, flags); err != nil {
			return err
		}
	}
	return nil
}

// hold returns a handle on a file, which knows it by a name if it has that.
func hold(d *fd.FD, at string) (*fd.FD, error) {
	if at == "" {
		return openAt(fmt.Sprintf("/proc/self/fd/%d", d.Int()), unix.O_PATH|unix.O_CLOEXEC)
	}
	return openSame(d, at, unix.O_PATH|unix.O_CLOEXEC|unix.O_NOFOLLOW)
}

// openSame opens a file by a name that it was given. In a directory of others, or as its
// owner, somebody may have put another one there since.
func openSame(d *fd.FD, at string, flags int) (*fd.FD, error) {
	got, err := openAt(at, flags)
	if err != nil {
		return nil, err
	}
	var its, st unix.Stat_t
	if err := errors.Join(unix.Fstat(d.Int(), &its), unix.Fstat(got.Int(), &st)); err != nil {
		return nil, errors.Join(err, got.Close())
	}
	if its.Dev != st.Dev || its.Ino != st.Ino {
		return nil, errors.Join(fmt.Errorf("%s: somebody has put another file there meanwhile; try again", at), got.Close())
	}
	return got, nil
}

func openAt(name string, flags int) (*fd.FD, error) {
	num, err := unix.Open(name, flags, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	return fd.New(num), nil
}
