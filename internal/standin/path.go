package standin

import (
	"errors"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/sockmem"
)

// Devices that opening changes nothing of: those of memory (null, zero, …), and
// pseudo-terminals, of which only what is open already has a path here.
const (
	kernelLog      = 11 // /dev/kmsg, of which each reader has a place
	memoryDevices  = 1
	firstTerminals = 136 // UNIX98_PTY_SLAVE_MAJOR
	lastTerminals  = 143
)

// byPath opens a file by its path once more: compare sees whether it is the same one.
func (k *Maker) byPath(x *sockmem.Lone) (*fd.FD, error) {
	if x.Flags&unix.O_PATH != 0 {
		return pathOnly(x)
	}
	at, err := unix.Open(x.Path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, unlike("its path, %q, leads nowhere (%v)", x.Path, err)
	}
	o := &original{file: fd.New(at)}
	defer o.file.Close()
	is, err := k.look(o.file)
	if err != nil {
		return nil, err
	}
	if is.Inode != x.Inode {
		return nil, unlike("its path, %q, leads to another file by now", x.Path)
	}
	if err := harmless(at); err != nil {
		return nil, err
	}
	return o.again(x)
}

// pathOnly opens a path as with O_PATH, of which nobody hears, whatever it leads to.
func pathOnly(x *sockmem.Lone) (*fd.FD, error) {
	if x.Path == "" {
		return nil, unlike("it was opened with O_PATH, and has no path")
	}
	n, err := unix.Open(x.Path, int(x.Flags)|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, unlike("its path, %q, leads nowhere (%v)", x.Path, err)
	}
	return fd.New(n), nil
}

// aside opens, as with O_PATH, what would be noticed if it was opened as it is: those who
// watch it would hear of that, and who has a lease would lose it. Its flags and its place
// are not those of the other one.
func (k *Maker) aside(x *sockmem.Lone) (*fd.FD, error) {
	const why = "somebody watches it or its directory (inotify), or has a lease on it"
	queue, err := k.isQueue(x)
	if err != nil {
		return nil, err
	}
	if mode := x.Mode & unix.S_IFMT; queue || x.Path == "" || mode != unix.S_IFREG && mode != unix.S_IFDIR {
		return nil, unlike("%s, and it is neither a file nor a directory with a path", why)
	}
	n, err := unix.Open(x.Path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, unlike("%s, and its path, %q, leads nowhere (%v)", why, x.Path, err)
	}
	own := fd.New(n)
	is, err := k.look(own)
	if err == nil && is.Inode != x.Inode {
		err = unlike("its path, %q, leads to another file by now", x.Path)
	}
	if err != nil {
		return nil, errors.Join(err, own.Close())
	}
	return own, nil
}

// harmless refuses what does something when it is opened.
func harmless(at int) error {
	var st unix.Stat_t
	if err := unix.Fstat(at, &st); err != nil {
		return unlike("it can't be looked at (%v)", err)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFDIR, unix.S_IFIFO:
		return nil
	case unix.S_IFCHR:
		if n := unix.Major(st.Rdev); n == memoryDevices && unix.Minor(st.Rdev) != kernelLog || firstTerminals <= n && n <= lastTerminals {
			return nil
		}
	}
	return unlike("it is a device, or of a kind that isn't opened by its path")
}
