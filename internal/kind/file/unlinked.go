package file

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/scan"
)

// A file whose name was deleted, and that has links by its own account
// (st_nlink), has another name, mostly. But on overlayfs a file of a lower layer
// tells the links that it has there, which nobody can take: that is how an update of
// packages in a container leaves the programs and libraries that are in use.

// unlinked sees to a file whose name was deleted, but that has links, and
// returns the path it had.
func (k *Regular) unlinked(env *kind.DumpEnv, f *scan.File) (string, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(f.Task.Dir.Path()+"/"+f.Path(), &fs); err != nil {
		return "", fmt.Errorf("%v: which file system is it on? statfs: %w", f, err)
	}
	switch fs.Type {
	case unix.SECRETMEM_MAGIC:
		return "", kind.Unsupported(f, "it is secret memory (memfd_secret(2)), which nobody but its process may read; run the program without, or let it close and unmap it")
	case unix.OVERLAYFS_SUPER_MAGIC:
		if gone, err := k.gone(env, f); err != nil || gone {
			if err != nil {
				return "", fmt.Errorf("%v: %w", f, err)
			}
			return k.dumpGhost(env, f)
		}
	}
	return k.linkRemap(env, f)
}

// gone tells whether a file of overlayfs whose name was deleted has no other.
// Only the kernel knows: such a file can't be given a name. One that can gets
// it for a moment.
func (k *Regular) gone(env *kind.DumpEnv, f *scan.File) (bool, error) {
	if f.Stat.Mode&unix.S_IFMT == unix.S_IFDIR {
		return true, nil // it never has two
	}
	key := inodeKey{f.Stat.Dev, f.Stat.Ino}
	if k.ghosts[key] != 0 {
		return true, nil
	}
	if _, known := k.links[key]; known {
		return false, nil
	}
	dir := path.Dir(strings.TrimSuffix(f.Link, deletedSuffix))
	for dir != "/" && !isRealDir(dir) {
		dir = path.Dir(dir)
	}
	name, err := addLink(env, f, dir)
	if err == nil {
		return false, unlinkAt(name)
	}
	return errors.Is(err, unix.ENOENT) && isRealDir(dir), nil
}
