package unix

import (
	"bytes"
	"errors"
	"fmt"

	sys "golang.org/x/sys/unix"

	"glis.dev/glis/internal/linux"
)

// room is a file system of our own that nobody else sees, for sockets whose
// names are paths that don't lead to them: the kernel gives names only to those
// that are bound. Its thread lives in it.
type room struct {
	work chan func()
	dir  int // the root of the file system
	next int
}

// newRoom makes the file system and its thread. It needs CAP_SYS_ADMIN and
// CAP_SYS_CHROOT; fsopen(2) is of Linux 5.2.
func newRoom() (*room, error) {
	r := &room{work: make(chan func())}
	var err error
	if r.dir, err = mountNowhere(); err != nil {
		return nil, err
	}
	ready := make(chan error)
	onThread(func() {
		ready <- sys.Unshare(sys.CLONE_FS)
		for f := range r.work {
			f()
		}
	})
	if err := <-ready; err != nil {
		return nil, errors.Join(fmt.Errorf("unshare(CLONE_FS): %w", err), sys.Close(r.dir))
	}
	r.do(func() error { sys.Umask(0); return nil }) //nolint:errcheck // it can't fail
	return r, nil
}

// mountNowhere returns the root of a new tmpfs that is mounted nowhere.
func mountNowhere() (int, error) {
	ctx, err := sys.Fsopen("tmpfs", sys.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("fsopen: %w", err)
	}
	defer sys.Close(ctx)
	if err := sys.FsconfigCreate(ctx); err != nil {
		return -1, fmt.Errorf("fsconfig: %w", err)
	}
	n, err := sys.Fsmount(ctx, sys.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("fsmount: %w", err)
	}
	return n, nil
}

func (r *room) close() {
	close(r.work)
	sys.Close(r.dir)
}

// do runs f on the thread that lives in the room.
func (r *room) do(f func() error) error {
	done := make(chan error)
	r.work <- func() { done <- f() }
	return <-done
}

// bind binds a socket to a path, in a root directory of its own, and removes
// the file.
func (r *room) bind(fd int, name []byte) error {
	r.next++
	root := fmt.Sprint(r.next)
	return r.do(func() error {
		err := errors.Join(sys.Fchdir(r.dir), sys.Mkdir(root, 0o777), sys.Chdir(root), sys.Chroot("."))
		if err != nil {
			return fmt.Errorf("enter a place to bind to %s: %w", nameString(name), err)
		}
		if err = bindFresh(fd, name); err == nil {
			err = sys.Unlink(string(name))
		}
		return errors.Join(err, sys.Fchdir(r.dir), sys.Chroot("."))
	})
}

// bindFresh makes the directories that a path has, and binds to it.
func bindFresh(fd int, name []byte) error {
	for i, c := range name {
		if c != '/' || len(bytes.Trim(name[:i], "/")) == 0 {
			continue
		}
		if err := sys.Mkdir(string(name[:i]), 0o777); err != nil && !errors.Is(err, sys.EEXIST) {
			return fmt.Errorf("make the directory %s: %w", nameString(name[:i]), err)
		}
	}
	if err := linux.Bind(fd, (&address{name: name}).sockaddr()); err != nil {
		return fmt.Errorf("bind to %s, in a place of its own: %w", nameString(name), err)
	}
	return nil
}
