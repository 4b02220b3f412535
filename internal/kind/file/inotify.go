package file

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/criu/fsnotify"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/scan"
)

// Inotify is inotify(7): its watches, with their numbers. What happens between
// dump and restore is not reported.
type Inotify struct {
	Regular *Regular // of the same dump or restore: files without a name
	paths   watchedPaths
	memory  *kmem.Shared // the kernel's
}

// Type implements kind.File.
func (*Inotify) Type() fdinfo.FdTypes { return fdinfo.FdTypes_INOTIFY }

// Match implements kind.File.
func (*Inotify) Match(f *scan.File) bool { return f.Link == inotifyLink }

const inotifyLink = "anon_inode:inotify"

// watchNames are the members of the kernel's structures that tell which number the next
// watch gets, if a higher one than there is was removed.
var watchNames = []string{
	"?fsnotify_group", "?fsnotify_group.inotify_data", "?inotify_group_private_data", "?inotify_group_private_data.idr", "?idr", "?idr.idr_next",
}

// KernelNames implements kind.MemoryUser.
func (*Inotify) KernelNames() []string { return watchNames }

// UseMemory implements kind.MemoryUser.
func (k *Inotify) UseMemory(m *kmem.Shared) { k.memory = m }

// AsksMemory implements kind.MemoryAsker.
func (*Inotify) AsksMemory(link string) bool { return link == inotifyLink }

// next returns the number that the next watch gets, 0 if nobody tells.
func (k *Inotify) next(d *fd.FD) (uint32, error) {
	if !k.memory.Open() {
		return 0, nil
	}
	r, err := k.memory.Reader()
	if err != nil {
		return 0, err
	}
	for _, n := range watchNames {
		if !r.Has(n[1:]) {
			return 0, nil
		}
	}
	return groupNumber(r, d, "fsnotify_group.inotify_data", "inotify_group_private_data.idr", "idr.idr_next")
}

// Dump implements kind.File.
func (k *Inotify) Dump(ctx context.Context, env *kind.DumpEnv, f *scan.File) (*fdinfo.FileEntry, error) {
	d, err := f.Borrow()
	if err != nil {
		return nil, err
	}
	defer d.Close()
	own, err := readOwner(env, f, d)
	if err != nil {
		return nil, err
	}
	if err := noEvents(f, d); err != nil {
		return nil, err
	}
	next, err := k.next(d)
	if err != nil {
		return nil, fmt.Errorf("%v: which number does its next watch get? %w", f, err)
	}
	defer k.paths.close()
	e := &fsnotify.InotifyFileEntry{Id: proto.Uint32(f.ID), Flags: proto.Uint32(f.Flags), Fown: own}
	for _, m := range f.Info().Inotify {
		name := ""
		if !ghostly(env.Tree, m.Dev, m.Ino) {
			if name, err = k.paths.find(ctx, env, f, m.Dev, m.Ino, m.Handle); err != nil {
				return nil, err
			}
		}
		e.Wd = append(e.Wd, &fsnotify.InotifyWdEntry{
			Id: proto.Uint32(f.ID), IIno: proto.Uint64(m.Ino), Mask: proto.Uint32(m.Mask), IgnoredMask: proto.Uint32(0), SDev: proto.Uint32(m.Dev),
			Wd: proto.Uint32(uint32(m.WD)), FHandle: handleEntry(m.Handle, name),
		})
	}
	if next > 0 && next <= math.MaxInt32 {
		putVarint(e, inotifyNext, uint64(next))
	}
	return &fdinfo.FileEntry{Ify: e}, nil
}

// noEvents refuses a file with events that nobody has read: they can't be
// looked at without taking them.
func noEvents(f *scan.File, d *fd.FD) error {
	n, err := unix.IoctlGetInt(d.Int(), unix.TIOCINQ)
	if err != nil {
		return fmt.Errorf("%v: ask for its events: %w", f, err)
	}
	if n > 0 {
		return kind.Unsupported(f, "%d bytes of events wait in it, which can't be read without taking them from the program; try again a moment later", n)
	}
	return nil
}

// Plan implements kind.File.
func (k *Inotify) Plan(p *plan.Plan, e *fdinfo.FileEntry) error {
	in := e.GetIfy()
	if in == nil {
		return entryError(e, "an inotify file without its entry")
	}
	b, err := newBase(e, in.GetId(), in.GetFlags(), in.GetFown())
	if err != nil {
		return err
	}
	next, _, _ := extra(in, inotifyNext)
	if next > math.MaxInt32 {
		return entryError(e, "an inotify file whose next watch is %d: it can't be", next)
	}
	n := &inotifyNode{base: b, next: uint32(next)}
	if n.ghosts, err = k.Regular.ghostFiles(p.Source); err != nil {
		return err
	}
	seen := map[uint32]bool{}
	for _, w := range in.GetWd() {
		name := ""
		if w.GetFHandle().GetPath() != "" || len(n.ghosts) == 0 {
			if name, err = watchedPath(w.GetFHandle(), w.GetIIno()); err != nil {
				return entryError(e, "an inotify file: %v", err)
			}
		}
		if seen[w.GetWd()] || w.GetWd() < 1 || w.GetWd() > 1<<31-1 {
			return entryError(e, "an inotify file with watch %d: it can't be, or is there twice", w.GetWd())
		}
		seen[w.GetWd()] = true
		n.watches = append(n.watches, inotifyWatch{wd: w.GetWd(), name: name, dev: w.GetSDev(), ino: w.GetIIno(), mask: w.GetMask()})
	}
	slices.SortFunc(n.watches, func(a, b inotifyWatch) int { return cmp.Compare(a.wd, b.wd) })
	return p.Add(n)
}

type inotifyWatch struct {
	wd    uint32
	name  string
	dev   uint32 // of what has no name
	ino   uint64
	ghost plan.ID // which file that is
	mask  uint32
}

type inotifyNode struct {
	base
	watches []inotifyWatch
	next    uint32                // number of the next one; 0: not known
	ghosts  map[*ghostSet]plan.ID // files that a watch without a name may be on
	hold    *fd.FD
}

// String implements plan.Node.
func (n *inotifyNode) String() string {
	return fmt.Sprintf("inotify %#x: %d watches", n.id, len(n.watches))
}

// Needs implements plan.Node: what is watched and has no name.
func (n *inotifyNode) Needs() (ids []plan.ID) {
	if slices.ContainsFunc(n.watches, func(w inotifyWatch) bool { return w.name == "" }) {
		ids = slices.Sorted(maps.Values(n.ghosts))
	}
	return ids
}

// Create implements plan.Node.
func (n *inotifyNode) Create(_ context.Context, env *plan.Env) (*fd.FD, error) {
	num, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("inotify %#x: %w", n.id, err)
	}
	d := fd.New(num)
	for _, w := range n.watches {
		if err := w.add(env, d); err != nil {
			return nil, errors.Join(fmt.Errorf("inotify %#x: watch %d on %s: %w", n.id, w.wd, w.name, err), d.Close())
		}
	}
	if n.next > 0 {
		_ = unix.IoctlSetInt(num, linux.INOTIFY_IOC_SETNEXTWD, int(n.next)) // Linux 4.18
	}
	hold, err := unix.FcntlInt(uintptr(num), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	n.hold = fd.New(hold)
	return n.ready(d)
}

// add adds a watch with its number.
func (w *inotifyWatch) add(env *plan.Env, d *fd.FD) error {
	name, mask := w.name, w.mask&linux.IN_SETTABLE|unix.IN_DONT_FOLLOW
	if w.ghost != 0 {
		f, err := env.File(w.ghost)
		if err != nil {
			return err
		}
		name, mask = fmt.Sprintf("/proc/self/fd/%d", f.Int()), w.mask&linux.IN_SETTABLE
	}
	return missing(linux.AddWatch(d.Int(), name, mask, w.wd))
}

// Late implements plan.Later: what the restore itself did is nothing to report.
// There were no events at the dump.
func (n *inotifyNode) Late(context.Context, *plan.Env) error {
	if n.hold == nil {
		return nil
	}
	defer n.Drop()
	return dropEvents(n.hold)
}

// dropEvents empties an inotify or fanotify file of the engine's making.
func dropEvents(d *fd.FD) error {
	b := make([]byte, 64<<10)
	for {
		if n, err := unix.IoctlGetInt(d.Int(), unix.TIOCINQ); err != nil || n == 0 {
			return err
		}
		if _, err := unix.Read(d.Int(), b); err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("take off events of the restore itself: %w", err)
		}
	}
}

// Drop implements plan.Dropper.
func (n *inotifyNode) Drop() {
	if n.hold != nil {
		n.hold.Close()
		n.hold = nil
	}
}
