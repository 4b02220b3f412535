package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Directories in a checkpoint hold further names of its files, so that criu
// finds a parent checkpoint where there is none: see "shared" in docs/images.md.
// The manifest lists these names, since a copy of the checkpoint may have made
// files of their own of them.

// listLinks adds to files what lies in directories of d. What is no link to a
// file of the list is not part of the checkpoint.
func (d *Dir) listLinks(files *ledger) error {
	var byInode map[dirID]int32
	return d.eachBelow(func(name string, e fs.DirEntry) error {
		if !e.Type().IsRegular() {
			return nil
		}
		if byInode == nil {
			var err error
			if byInode, err = d.inodes(files); err != nil {
				return err
			}
		}
		id, err := d.inode(name)
		if err != nil {
			return err
		}
		if to, ok := byInode[id]; ok {
			files.add(listed{name: name, link: string(files.name(int(to)))})
		}
		return nil
	})
}

// eachBelow calls f for all directories below d, and for what is in them.
// Links are not followed.
func (d *Dir) eachBelow(f func(name string, e fs.DirEntry) error) error {
	var st unix.Stat_t
	// A directory has a link from itself, and one from each below it, unless
	// the file system does not count.
	if err := unix.Fstat(int(d.f.Fd()), &st); err != nil || st.Nlink == 2 {
		return err
	}
	if st.Nlink == 0 {
		return fmt.Errorf("list %v: %w", d, ErrRemoved)
	}
	defer runtime.KeepAlive(d) // as long as its descriptor is named
	root, err := os.OpenRoot(fmt.Sprintf("/proc/self/fd/%d", d.f.Fd()))
	if err != nil {
		return d.pathError("open", ".", err)
	}
	defer root.Close() //nolint:errcheck // only read from
	return fs.WalkDir(root.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || name == "." || !e.IsDir() && !strings.Contains(name, "/") {
			return err
		}
		return f(name, e)
	})
}

// inodes returns which inodes the files of the list have, by their numbers there.
func (d *Dir) inodes(files *ledger) (map[dirID]int32, error) {
	out := make(map[dirID]int32, len(files.at))
	for i := range files.at {
		id, err := d.inode(string(files.name(i)))
		if err != nil {
			return nil, err
		}
		out[id] = int32(i)
	}
	return out, nil
}

func (d *Dir) inode(name string) (dirID, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(int(d.f.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return dirID{}, d.pathError("stat", name, err)
	}
	return dirID{dev: st.Dev, ino: st.Ino}, nil
}

// syncLinks makes the directories below d last.
func (d *Dir) syncLinks() error {
	return d.eachBelow(func(name string, e fs.DirEntry) error {
		if !e.IsDir() {
			return nil
		}
		fd, err := openat(int(d.f.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
		if err != nil {
			return d.pathError("open", name, err)
		}
		if err := errors.Join(unix.Fsync(fd), unix.Close(fd)); err != nil {
			return d.pathError("sync", name, err)
		}
		return nil
	})
}
