package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind"
)

// irmapPlaces are where criu looks for watched inodes that have no handle.
var irmapPlaces = [...]string{
	"/etc", "/var/spool", "/var/log", "/usr/share/dbus-1/services", "/usr/share/dbus-1/system-services",
	"/var/lib/polkit-1/localauthority", "/usr/share/polkit-1/actions", "/lib/udev",
}

// mostSearched is how many names are looked at in all.
const mostSearched = 1 << 20

// search finds an inode by looking through directories, if the user wants that
// (--irmap-scan-path, and criu's own places with --force-irmap): on file systems
// that give no handles nothing else helps.
func (w *watchedPaths) search(ctx context.Context, env *kind.DumpEnv, key inodeKey) (string, error) {
	if w.searched == nil {
		places := env.Options.IrmapScanPaths
		if env.Options.ForceIrmap {
			places = append(append([]string{}, places...), irmapPlaces[:]...)
		}
		w.searched = map[inodeKey]string{}
		for _, dir := range places {
			if err := w.look(ctx, dir); err != nil {
				return "", err
			}
		}
	}
	return w.searched[key], nil
}

// look notes where the inodes below a directory are. What can't be read is
// passed over.
func (w *watchedPaths) look(ctx context.Context, dir string) error {
	return filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if len(w.searched) >= mostSearched {
			return fmt.Errorf("--irmap-scan-path %s: there are more than %d names; name smaller directories", dir, mostSearched)
		}
		var st unix.Stat_t
		if err == nil {
			err = unix.Lstat(name, &st)
		}
		if err != nil {
			if d != nil && d.IsDir() && !errors.Is(err, fs.ErrNotExist) {
				return fs.SkipDir
			}
			return nil
		}
		if key := (inodeKey{st.Dev, st.Ino}); w.searched[key] == "" {
			w.searched[key] = name
		}
		return nil
	})
}
