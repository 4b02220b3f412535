package unix

import (
	"errors"
	"fmt"

	sys "golang.org/x/sys/unix"

	"glis.dev/glis/internal/linux"
)

// bindRaw binds a socket to an abstract name.
func bindRaw(fd int, name []byte) error { return linux.Bind(fd, (&address{name: name}).sockaddr()) }

// bind gives a socket its address.
func (a *address) bind(fd int) error {
	switch {
	case len(a.name) == 0:
		return nil
	case a.file != nil:
		return a.bindMoved(fd)
	case isPath(a.name):
		return a.inPlace(func() error { return a.bindPath(fd) })
	}
	err := afterGarbage(a.name, func() error { return linux.Bind(fd, a.sockaddr()) })
	if errors.Is(err, sys.EADDRINUSE) {
		return fmt.Errorf("bind to %v: %s has this name; end that program first: %w", a, holder(a.name), err)
	}
	return wrapBind(a, err)
}

func wrapBind(a *address, err error) error {
	if err != nil {
		return fmt.Errorf("bind to %v: %w", a, err)
	}
	return nil
}

// inPlace runs fn where the name begins, and without a umask. Root and working
// directory are made the thread's own first; the thread is thrown away
// afterwards, by not unlocking it.
func (a *address) inPlace(fn func() error) error {
	done := make(chan error)
	onThread(func() { done <- a.enter(fn) })
	return <-done
}

func (a *address) enter(fn func() error) error {
	if err := sys.Unshare(sys.CLONE_FS); err != nil {
		return fmt.Errorf("unshare(CLONE_FS): %w", err)
	}
	sys.Umask(0)
	if a.root != "" {
		if err := errors.Join(sys.Chroot(a.root), sys.Chdir("/")); err != nil {
			return fmt.Errorf("enter the root directory %q of %v: %w", a.root, a, err)
		}
	}
	if a.dir != "" {
		if err := sys.Chdir(a.dir); err != nil {
			return fmt.Errorf("enter the directory of %v (make it again as it was at the dump): %w", a, err)
		}
	}
	return fn()
}

// bindPath binds the socket to a path, and makes its file what it was. The
// file gets the permissions of the socket at once, so that nobody can connect
// who may not.
func (a *address) bindPath(fd int) error {
	if err := a.clear(); err != nil {
		return err
	}
	var own sys.Stat_t
	if err := sys.Fstat(fd, &own); err != nil {
		return fmt.Errorf("fstat: %w", err)
	}
	if a.perms != nil {
		if err := sys.Fchmod(fd, a.mode()&0o777); err != nil {
			return fmt.Errorf("set the permissions of its file %v: %w", a, err)
		}
	}
	err := linux.Bind(fd, a.sockaddr())
	if errors.Is(err, sys.ENOENT) {
		return fmt.Errorf("bind to %v: the directory is missing; make it again as it was at the dump: %w", a, err)
	}
	if err != nil {
		return wrapBind(a, err)
	}
	if err := sys.Fchmod(fd, own.Mode&^sys.S_IFMT); err != nil {
		return fmt.Errorf("set its permissions: %w", err)
	}
	return a.setPerms()
}

func (a *address) mode() uint32 { return a.perms.GetMode() &^ sys.S_IFMT }

// setPerms sets what the file didn't get when it was made.
func (a *address) setPerms() error {
	if a.perms == nil {
		return nil
	}
	name, st := string(a.name), sys.Stat_t{}
	if err := sys.Lstat(name, &st); err != nil {
		return fmt.Errorf("look at the new file %v: %w", a, err)
	}
	if st.Uid != a.perms.GetUid() || st.Gid != a.perms.GetGid() {
		if err := sys.Lchown(name, int(a.perms.GetUid()), int(a.perms.GetGid())); err != nil {
			return fmt.Errorf("make %v belong to user %d, group %d: %w", a, a.perms.GetUid(), a.perms.GetGid(), err)
		}
	}
	if st.Mode&^sys.S_IFMT == a.mode() {
		return nil
	}
	if err := sys.Chmod(name, a.mode()); err != nil {
		return fmt.Errorf("set the permissions %#o of %v: %w", a.mode(), a, err)
	}
	return nil
}

// clear removes the file of a socket that is closed, and nothing else.
func (a *address) clear() error {
	var st sys.Stat_t
	err := sys.Lstat(string(a.name), &st)
	switch {
	case errors.Is(err, sys.ENOENT):
		return nil
	case err != nil:
		return fmt.Errorf("look at %v: %w", a, err)
	case st.Mode&sys.S_IFMT != sys.S_IFSOCK:
		return fmt.Errorf("bind to %v: a file that is no socket has this path; move it away", a)
	}
	err = afterGarbage(a.name, func() error {
		live, err := a.live()
		if live {
			err = errors.Join(err, sys.EADDRINUSE)
		}
		return err
	})
	if errors.Is(err, sys.EADDRINUSE) {
		return fmt.Errorf("bind to %v: this path is in use by %s; end that program first: %w", a, holder(a.name), sys.EADDRINUSE)
	}
	if err != nil {
		return err
	}
	if err := sys.Unlink(string(a.name)); err != nil && !errors.Is(err, sys.ENOENT) {
		return fmt.Errorf("remove the old file %v: %w", a, err)
	}
	return nil
}

// live tells whether any socket is bound to the file: nobody notices how a
// datagram socket that never sends is connected to it, and is closed.
func (a *address) live() (bool, error) {
	probe, err := sys.Socket(sys.AF_UNIX, sys.SOCK_DGRAM|sys.SOCK_NONBLOCK|sys.SOCK_CLOEXEC, 0)
	if err != nil {
		return false, fmt.Errorf("make a socket to look whether %v is in use: %w", a, err)
	}
	defer sys.Close(probe)
	err = linux.Connect(probe, a.sockaddr())
	return !errors.Is(err, sys.ECONNREFUSED) && !errors.Is(err, sys.ENOENT), nil
}
