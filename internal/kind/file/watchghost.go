package file

import (
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/scan"
)

// A watch may be on a file that was deleted while the tree has it open. It is
// known by its device and inode then, as the image of the deleted file has
// them; a restore watches the one that takes its place.

// ghostly tells whether the tree has a deleted file with this inode open. dev
// is as the kernel has it.
func ghostly(t *scan.Tree, dev uint32, ino uint64) bool {
	for _, f := range t.Files {
		if f.FD >= 0 && f.Stat.Ino == ino && f.Stat.Nlink == 0 && unix.Major(f.Stat.Dev)<<20|unix.Minor(f.Stat.Dev) == dev && (&Regular{}).Match(f) {
			return true
		}
	}
	return false
}

// ghostFiles returns, for each deleted file, a file of the tree that it is.
func (k *Regular) ghostFiles(src plan.Source) (map[*ghostSet]plan.ID, error) {
	if k == nil {
		return nil, nil
	}
	if err := k.readRemaps(src); err != nil {
		return nil, err
	}
	all := map[*ghostSet]plan.ID{}
	for id, r := range k.remaps {
		if r.ghost != nil {
			all[r.ghost] = plan.ID(id)
		}
	}
	return all, nil
}

// Check implements plan.Checked: it finds out which deleted file each watch
// without a path is on.
func (n *inotifyNode) Check(env *plan.CheckEnv) error {
	for i := range n.watches {
		w := &n.watches[i]
		if w.name != "" {
			continue
		}
		for g, id := range n.ghosts {
			if len(g.nodes) == 0 {
				continue // of no file
			}
			rd, head, err := g.open(env.Store)
			if err != nil {
				return err
			}
			rd.Close()
			if head.GetDev() == w.dev && head.GetIno() == w.ino {
				w.ghost = id
			}
		}
		if w.ghost == 0 {
			return fmt.Errorf("inotify %#x: watch %d: inode %d is told without a path, and none of the deleted files in the images is that; dump it with Glis, or with --force-irmap", n.id, w.wd, w.ino)
		}
	}
	return nil
}
