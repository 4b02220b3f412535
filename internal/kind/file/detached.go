package file

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/scan"
)

// A mount may be in no mount namespace: it was detached (umount -l) while files of it are open,
// or nobody has attached it yet (open_tree(2), fsmount(2)). It goes with the last of its files.

// attached refuses the handle of a mount that is in no namespace, which a program has to attach
// it (move_mount(2)), and directories of such a mount. The kernel calls it as what is in the
// mount's root, be it elsewhere, too, as whoever looks from Glis's own root sees it.
func (k *Regular) attached(f *scan.File) error {
	if f.Stat.Mode&unix.S_IFMT != unix.S_IFDIR || f.MntID < 0 {
		return nil
	}
	var x unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, f.Link, 0, unix.STATX_MNT_ID, &x); err != nil {
		return fmt.Errorf("%v: statx: %w", f, err)
	}
	mount := uint64(f.MntID)
	if x.Mnt_id == mount {
		return nil
	}
	in, err := mountedFor(f.Task, mount)
	if err != nil || in != "" {
		return err
	}
	return kind.Unsupported(f, "%s; close it, or attach the mount", notAttached(mount))
}

func notAttached(mount uint64) string {
	return fmt.Sprintf("its mount (number %d) is in no mount namespace that a process has: it was detached (umount -l), or never attached (open_tree(2), fsmount(2))", mount)
}

const ofTree = "the tree"

// mountedFor tells who has a mount: the tree, another process with its mount namespace, or ""
// if nobody does.
func mountedFor(t *scan.Task, mount uint64) (string, error) {
	its := func(m *mountinfo.Info) bool { return uint64(m.ID) == mount }
	all, err := proc.Mountinfo(t.Dir)
	if err != nil {
		return "", err
	}
	if slices.ContainsFunc(all, its) {
		return ofTree, nil
	}
	seen := map[string]bool{}
	names, _ := filepath.Glob("/proc/[0-9]*/ns/mnt") // who can't be looked at isn't found
	for _, name := range names {
		to, err := os.Readlink(name)
		if err != nil || seen[to] {
			continue
		}
		dir := filepath.Dir(filepath.Dir(name))
		text, err := fd.ReadFile(dir + "/mountinfo")
		if err != nil {
			continue
		}
		seen[to] = true
		all, err := proc.ParseMountinfo(text)
		if err != nil {
			return "", err
		}
		if slices.ContainsFunc(all, its) {
			return "process " + filepath.Base(dir), nil
		}
	}
	return "", nil
}
