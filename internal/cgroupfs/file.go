package cgroupfs

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// mostFile is more than a file of a cgroup that is written to has.
const mostFile = 1 << 20

// Children returns the names of the cgroups in d, in order.
func (d *Dir) Children() ([]string, error) { return d.list(os.DirEntry.IsDir) }

// Files returns the names of d's files, in order.
func (d *Dir) Files() ([]string, error) {
	return d.list(func(e os.DirEntry) bool { return !e.IsDir() })
}

func (d *Dir) list(which func(os.DirEntry) bool) ([]string, error) {
	n, err := beneath(d.file.Int(), ".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, fmt.Errorf("%v: %w", d, err)
	}
	f := os.NewFile(uintptr(n), d.what)
	defer f.Close()
	entries, err := f.ReadDir(-1)
	if err != nil {
		return nil, fmt.Errorf("%v: %w", d, err)
	}
	var out []string
	for _, e := range entries {
		if which(e) {
			out = append(out, e.Name())
		}
	}
	slices.Sort(out)
	return out, nil
}

// Read reads a file without the last line's end. The error is ENOENT if there
// is none.
func (d *Dir) Read(name string) (string, error) {
	n, err := d.open(name, unix.O_RDONLY)
	if err != nil {
		return "", err
	}
	defer unix.Close(n) //nolint:errcheck // nothing was written
	var out []byte
	b := make([]byte, 4096)
	for len(out) < mostFile {
		k, err := unix.Read(n, b)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("%v: read %s: %w", d, name, err)
		}
		if k == 0 {
			break
		}
		out = append(out, b[:k]...)
	}
	return strings.TrimSuffix(string(out), "\n"), nil
}

func (d *Dir) open(name string, flags uint64) (int, error) {
	if name == "" || strings.ContainsAny(name, "/\x00") {
		return -1, fmt.Errorf("%v: %q is no name of a file", d, name)
	}
	n, err := beneath(d.file.Int(), name, flags)
	if err != nil {
		return -1, fmt.Errorf("%v: open %s: %w", d, name, err)
	}
	return n, nil
}

// Write writes a file, all in one call: the kernel takes each call for a
// value of its own.
func (d *Dir) Write(name, value string) error {
	n, err := d.open(name, unix.O_WRONLY)
	if err != nil {
		return err
	}
	k, err := unix.Write(n, []byte(value))
	for err == unix.EINTR {
		k, err = unix.Write(n, []byte(value))
	}
	if err == nil && k != len(value) {
		err = errors.New("not all of it was taken")
	}
	if err = errors.Join(err, unix.Close(n)); err != nil {
		return fmt.Errorf("%v: write %q to %s: %w", d, value, name, err)
	}
	return nil
}

// Perms are who may use a file, or the cgroup itself.
type Perms struct{ Mode, UID, GID uint32 }

// Perms returns those of a file, or of the cgroup itself for "".
func (d *Dir) Perms(name string) (Perms, error) {
	var st unix.Stat_t
	var err error
	if name == "" {
		err = unix.Fstat(d.file.Int(), &st)
	} else {
		err = unix.Fstatat(d.file.Int(), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	}
	if err != nil {
		return Perms{}, fmt.Errorf("%v: stat %s: %w", d, name, err)
	}
	return Perms{st.Mode, st.Uid, st.Gid}, nil
}

// SetPerms sets those of a file, or of the cgroup itself for "".
func (d *Dir) SetPerms(name string, p Perms) error {
	if now, err := d.Perms(name); err != nil || now.UID == p.UID && now.GID == p.GID && now.Mode&0o7777 == p.Mode&0o7777 {
		return err
	}
	if name == "" {
		name = "."
	}
	n, err := beneath(d.file.Int(), name, unix.O_PATH)
	if err != nil {
		return fmt.Errorf("%v: open %s: %w", d, name, err)
	}
	defer unix.Close(n) //nolint:errcheck // nothing is buffered
	err = unix.Fchownat(n, "", int(p.UID), int(p.GID), unix.AT_EMPTY_PATH)
	if err == nil {
		err = unix.Fchmodat(d.file.Int(), name, p.Mode&0o7777, 0)
	}
	if err != nil {
		return fmt.Errorf("%v: set who may use %s: %w", d, name, err)
	}
	return nil
}
