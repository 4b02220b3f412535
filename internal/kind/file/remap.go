package file

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/fdinfo"
	remap "glis.dev/glis/image/criu/remap-file-path"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/scan"
)

// A file whose last known name was deleted, but that has another one somewhere,
// gets a name beside the old one for the time until it is restored, if
// --link-remap allows that.

// linkName is how CRIU calls such names, with a number.
const linkName = "link_remap."

// linkRemap gives a file a name, and returns the path it had.
func (k *Regular) linkRemap(env *kind.DumpEnv, f *scan.File) (string, error) {
	old := strings.TrimSuffix(f.Link, deletedSuffix)
	switch {
	case f.Stat.Mode&unix.S_IFMT != unix.S_IFREG:
		return "", kind.Unsupported(f, "it is %s whose name was deleted; close it, or put it back", typeName(f.Stat.Mode))
	case !env.Options.LinkRemap:
		return "", kind.Unsupported(f, "its name was deleted while it was open, and it has another one that Glis does not know; put it back, or use --link-remap to have Glis give it a name until the restore")
	}
	key := inodeKey{f.Stat.Dev, f.Stat.Ino}
	id, known := k.links[key]
	if !known {
		name, err := addLink(env, f, path.Dir(old))
		if errors.Is(err, errMoved) {
			return "", kind.Unsupported(f, "its name was deleted while it was open, it has another one that Glis does not know, and %v, so that --link-remap can't give it a name there; put it back", err)
		}
		if err != nil {
			return "", fmt.Errorf("%v: --link-remap: %w", f, err)
		}
		env.Undo("the name "+name, func() error { return unlinkAt(name) })
		link := &scan.File{Task: f.Task, FD: -1, Beside: f.Path(), Link: name, Stat: f.Stat, Flags: unix.O_RDONLY, MntID: -1}
		env.Files.Named(link)
		if k.links == nil {
			k.links = map[inodeKey]uint32{}
		}
		id = link.ID
		k.links[key] = id
	}
	e := &remap.RemapFilePathEntry{OrigId: proto.Uint32(f.ID), RemapId: proto.Uint32(id), RemapType: remap.RemapType_LINKED.Enum()}
	return old, env.Images.Put(image.RemapFile, e, nil)
}

// errMoved says that the path of a directory leads to none, or by a link to another one.
var errMoved = errors.New("the directory that it was in is gone, or a link has its name")

// realDir opens a directory, unless a link is on the way: no path that the kernel tells
// has any.
func realDir(name string) (*fd.FD, error) {
	n, err := unix.Openat2(unix.AT_FDCWD, name, &unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS})
	switch {
	case errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR):
		return nil, fmt.Errorf("%w: %s: %w", errMoved, name, err)
	case err != nil:
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	return fd.New(n), nil
}

// unlinkAt removes a name from where it was given.
func unlinkAt(name string) error {
	d, err := realDir(path.Dir(name))
	if err != nil {
		return err
	}
	defer d.Close()
	return unix.Unlinkat(d.Int(), path.Base(name), 0)
}

// addLink gives a file a name in this directory that is still free.
func addLink(env *kind.DumpEnv, f *scan.File, dir string) (string, error) {
	d, err := realDir(dir)
	if err != nil {
		return "", err
	}
	defer d.Close()
	from := fmt.Sprintf("%s/%s", f.Task.Dir.Path(), f.Path())
	for i := range 1000 {
		name := fmt.Sprintf("%s/%s%d", dir, linkName, int(f.ID)+i)
		if err := env.Guard.Name(name, f.Stat.Dev, f.Stat.Ino); err != nil {
			return "", err
		}
		err := unix.Linkat(unix.AT_FDCWD, from, d.Int(), path.Base(name), unix.AT_SYMLINK_FOLLOW)
		if err == nil {
			return name, nil
		}
		if !errors.Is(err, unix.EEXIST) {
			return "", fmt.Errorf("name it %s: %w", name, err)
		}
	}
	return "", fmt.Errorf("%s/%s…: a thousand of these are there already; remove them", dir, linkName)
}

// NFS keeps a file that is deleted while it is open under a name like this,
// until it is closed.
const (
	sillyPrefix = ".nfs"
	nfsMagic    = 0x6969 // NFS_SUPER_MAGIC of linux/magic.h
)

// sillyName refuses a file on NFS that ends with its last user.
func sillyName(f *scan.File) error {
	if !strings.HasPrefix(path.Base(f.Link), sillyPrefix) {
		return nil
	}
	var st unix.Statfs_t
	err := unix.Statfs(f.Link, &st)
	if errors.Is(err, unix.ENOENT) || err == nil && st.Type != nfsMagic {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%v: is it on NFS? statfs: %w", f, err)
	}
	return kind.Unsupported(f, "it was deleted on NFS while it was open, and its server deletes it for good when it is closed; keep a name for it")
}

// remapped is a file that comes back in another way than by its path alone.
type remapped struct {
	ghost *ghostSet // its contents are in the images; nil: it has this name
	link  string
	dead  uint32 // or is a file of /proc of this process, which has ended
	stood int    // of a ghost: how much of its path led to a directory
}

// readRemaps finds out once which files these are.
func (k *Regular) readRemaps(src plan.Source) error {
	if k.remaps != nil {
		return nil
	}
	k.remaps = map[uint32]*remapped{}
	all, err := src.Entries(image.RemapFile)
	if err != nil || len(all) == 0 {
		return err
	}
	files, err := src.Entries(image.Files)
	if err != nil {
		return err
	}
	names := map[uint32]string{}
	for _, e := range files {
		if reg := e.Message.(*fdinfo.FileEntry).GetReg(); reg != nil {
			names[reg.GetId()] = reg.GetName()
		}
	}
	ghosts := map[uint32]*ghostSet{}
	for _, e := range all {
		if err := k.readRemap(e.Message.(*remap.RemapFilePathEntry), names, ghosts); err != nil {
			return fmt.Errorf("remap-fpath.img: %w", err)
		}
	}
	k.sameDead(names)
	return nil
}

// sameDead finds the other files of processes that had ended: criu notes one of each.
func (k *Regular) sameDead(names map[uint32]string) {
	dead := map[uint32]bool{}
	for _, r := range k.remaps {
		if r.dead != 0 {
			dead[r.dead] = true
		}
	}
	for id, name := range names {
		if pid := ofProc(name); dead[pid] && k.remaps[id] == nil {
			k.remaps[id] = &remapped{dead: pid}
		}
	}
}

func (k *Regular) readRemap(m *remap.RemapFilePathEntry, names map[uint32]string, ghosts map[uint32]*ghostSet) error {
	id, to := m.GetOrigId(), m.GetRemapId()
	if k.remaps[id] != nil {
		return fmt.Errorf("file %#x is there twice", id)
	}
	switch m.GetRemapType() {
	case remap.RemapType_GHOST:
		if ghosts[to] == nil {
			ghosts[to] = &ghostSet{id: to}
		}
		k.remaps[id] = &remapped{ghost: ghosts[to], stood: unix.PathMax}
		if v, _, ok := extra(m, ghostStood); ok {
			k.remaps[id].stood = int(min(v, unix.PathMax))
		}
	case remap.RemapType_LINKED:
		name := names[to]
		if !strings.HasPrefix(name, "/") || !strings.HasPrefix(path.Base(name), linkName) {
			return fmt.Errorf("file %#x is said to be called %.80q, which is no name that --link-remap gives", id, name)
		}
		if was, ok := names[id]; ok && path.Dir(name) != path.Dir(was) {
			return fmt.Errorf("file %#x, %.80q, is said to be called %.80q, and --link-remap gives names in the same directory", id, was, name)
		}
		k.remaps[id] = &remapped{link: name}
	case remap.RemapType_PROCFS:
		if to < 1 || to > maxPID {
			return fmt.Errorf("file %#x is said to be one of process %d: there is no such number", id, to)
		}
		k.remaps[id] = &remapped{dead: to}
	default:
		return fmt.Errorf("file %#x comes back in way %d, which Glis does not know", id, m.GetRemapType())
	}
	return nil
}

// join makes a node known to what it shares with others.
func (r *remapped) join(n *regularNode) {
	if r != nil && r.ghost != nil {
		r.ghost.nodes = append(r.ghost.nodes, n)
	}
}

// Check implements plan.Checked.
func (n *regularNode) Check(env *plan.CheckEnv) error {
	if err := n.checkNotices(); err != nil {
		return err
	}
	if n.remap == nil || n.remap.ghost == nil || n.remap.ghost.nodes[0] != n {
		return nil
	}
	return n.remap.ghost.check(env.Store)
}

// openGhost opens a file that was deleted.
func (n *regularNode) openGhost(env *plan.Env) (*fd.FD, error) {
	d, err := n.remap.ghost.get(n, env)
	if err != nil {
		return nil, err
	}
	if n.flags&unix.O_PATH == 0 {
		if d, err = n.ready(d); err != nil {
			return nil, err
		}
	}
	return n.settle(d)
}

// openLinked opens a file whose name was deleted: by that name, if nobody else
// has it by now, so that it is known by it again. It gets that beside the one it has.
func (n *regularNode) openLinked(env *plan.Env) (*fd.FD, error) {
	link, name := path.Base(n.remap.link), path.Base(n.name)
	dir, err := openAt(path.Dir(n.remap.link), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC)
	if err == nil {
		defer dir.Close()
		err = unix.Linkat(dir.Int(), link, dir.Int(), name, 0)
	}
	if errors.Is(err, unix.EEXIST) {
		return n.openIn(env, dir.Int(), link)
	}
	if err != nil {
		return nil, fmt.Errorf("%s, which --link-remap called it at the dump: %w%s", n.remap.link, missing(err), noRoom(err))
	}
	d, err := n.openIn(env, dir.Int(), name)
	return d, errors.Join(err, unix.Unlinkat(dir.Int(), name, 0))
}

// Drop implements plan.Dropper.
func (n *regularNode) Drop() {
	n.dir.close()
	if n.remap != nil && n.remap.ghost != nil {
		n.remap.ghost.drop()
	}
}

// Follow implements plan.Follower: the name that --link-remap gave has done
// its work.
func (n *regularNode) Follow() error {
	if n.remap == nil || n.remap.link == "" {
		return nil
	}
	if err := unix.Unlink(n.remap.link); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove %s: %w", n.remap.link, err)
	}
	return nil
}
