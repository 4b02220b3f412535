package dump

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/scan"
)

// files finds every open file of the tree once, however many descriptors
// refer to it.
type files struct {
	tree *scan.Tree
	// The number of the first descriptor of those that may be the same open file
	// description: same device, inode and flags. Where there are several, all are in
	// several.
	same    map[fileKey]uint32
	several map[fileKey]*alike
	devices map[uint64]uint32 // numbers for fileKey
	// files that are no descriptors, by inode and flags.
	linked map[linkKey]*scan.File
	tables map[uint32]*scan.Task // who was read first, by shared table
	// files that came with messages, and the engine, which has them
	received []*fd.FD
	self     *scan.Task
	sockets  *sockets     // nil: they are looked at one by one
	plain    *plain       // nil: as with sockets
	memory   *kmem.Shared // the kernel's, if it is open; nil: it is not read
}

// fileKey is small: there may be very many.
type fileKey struct {
	ino        uint64
	dev, flags uint32 // dev as devices has it
}

type linkKey struct {
	dev, ino uint64
	flags    uint32
}

func newFiles(tree *scan.Tree) *files {
	return &files{tree: tree, same: map[fileKey]uint32{}, several: map[fileKey]*alike{}, devices: map[uint64]uint32{}, linked: map[linkKey]*scan.File{}, tables: map[uint32]*scan.Task{}}
}

// scanAll reads the descriptor tables of all tasks, until ended says that there
// is no more time.
func (f *files) scanAll(ended func() error) error {
	for _, t := range f.tree.Tasks {
		if t.Zombie {
			continue
		}
		if o := f.tables[t.IDs.Files]; o != nil {
			t.FDs = o.FDs
			continue
		}
		f.tables[t.IDs.Files] = t
		if err := f.scanTable(t, ended); err != nil {
			return kind.About(t, err)
		}
	}
	return nil
}

func (f *files) scanTable(t *scan.Task, ended func() error) error {
	fds, places, err := f.numbers(t)
	if err != nil {
		return err
	}
	t.FDs = make([]scan.Ref, 0, len(fds))
	f.grow(len(fds))
	known, plain := f.sockets.of(t, len(fds), ended), []*scan.File(nil)
	if len(fds)-len(known) >= fewPlain {
		plain = f.plain.of(t, ended)
	}
	var some []looked
	for i, n := range fds {
		if err := ended(); err != nil {
			return err
		}
		if len(some) == 0 {
			some = lookAt(t, fds[i:min(i+lookedAtOnce, len(fds))], known, plain, ended)
		}
		at := some[0]
		if some = some[1:]; places != nil {
			at.place = places[i]
		}
		ref, err := f.refer(t, n, at)
		if errors.Is(err, kind.ErrUnsupported) {
			return err
		} else if err != nil {
			return fmt.Errorf("descriptor %d: %w", n, err)
		}
		ref.File.Users = append(ref.File.Users, scan.User{Task: t, FD: n})
		t.FDs = append(t.FDs, ref)
	}
	return nil
}

// refer finds out which open file a descriptor is that was looked at, or wasn't yet.
func (f *files) refer(t *scan.Task, n int32, at looked) (ref scan.Ref, err error) {
	if at.file == nil && at.err == nil {
		if ref, err = f.inherited(t, n); ref.File != nil || err != nil {
			return ref, err
		}
		at.file, at.err = describe(t, n)
	}
	if at.err != nil {
		return ref, at.err
	}
	file := at.file
	f.own(t, file.Info().Locks)
	ref = scan.Ref{FD: n, Cloexec: file.Flags&unix.O_CLOEXEC != 0}
	file.Flags &^= unix.O_CLOEXEC
	file.Place = uint64(at.place)
	ref.File, err = f.once(file)
	return ref, err
}

// inherited returns a descriptor that is the same open file as the parent's of that number, as
// after fork(2): what is known of that need not be read again. No file: it is another one.
func (f *files) inherited(t *scan.Task, n int32) (ref scan.Ref, err error) {
	i, ok := above(t, n)
	if !ok {
		return ref, nil
	}
	same, err := linux.Kcmp(t.Parent.Via(), t.Via(), linux.KCMP_FILE, uintptr(n), uintptr(n))
	if err != nil || same != 0 {
		return ref, nil //nolint:nilerr // it is looked at as others are, which tells
	}
	info, err := t.Dir.FDInfo(n)
	if err != nil {
		return ref, err
	}
	file := t.Parent.FDs[i].File
	f.own(t, info.Locks)
	addLocks(file, info.Locks)
	return scan.Ref{FD: n, Cloexec: info.Flags&unix.O_CLOEXEC != 0, File: file}, nil
}

// own has record locks be of the task that shows them, as its table of descriptors has them, if
// who took them has left that to it: by its end, or since it executes another program.
func (f *files) own(t *scan.Task, locks []proc.Lock) {
	for i := range locks {
		l := &locks[i]
		if l.Kind != "POSIX" {
			continue
		}
		if taker := f.tree.Task(proc.PID(l.PID)); taker == nil || taker.IDs.Files != t.IDs.Files {
			l.PID = int32(t.PID)
		}
	}
}

// addLocks makes known what another task shows of the locks on a file: each shows its own,
// but whoever has a lease is shown it in all tasks.
func addLocks(known *scan.File, more []proc.Lock) {
	if len(more) == 0 {
		return
	}
	info := *known.Info()
	info.Locks = append(slices.Clip(info.Locks), more...)
	known.Told = &info
}

// grow makes room for n more files.
func (f *files) grow(n int) {
	f.tree.Files = slices.Grow(f.tree.Files, n)
	if len(f.same) == 0 && n >= manyDescriptors {
		f.same = make(map[fileKey]uint32, n)
	}
}

// once returns the file that this is, if it is known already, or makes it
// known.
func (f *files) once(file *scan.File) (*scan.File, error) {
	key := f.keyOf(file)
	first, ok := f.same[key]
	if !ok {
		f.tree.AddFile(file)
		f.same[key] = file.ID
		return file, nil
	}
	all := f.several[key]
	if all == nil {
		all = newAlike(f.tree.Files[first-1])
		f.several[key] = all
	}
	known, err := all.find(file)
	if err != nil {
		return nil, err
	}
	if known != nil {
		addLocks(known, file.Info().Locks)
		return known, nil
	}
	f.tree.AddFile(file)
	return file, nil
}

func (f *files) keyOf(file *scan.File) fileKey {
	dev, ok := f.devices[file.Stat.Dev]
	if !ok {
		dev = uint32(len(f.devices))
		f.devices[file.Stat.Dev] = dev
	}
	return fileKey{file.Stat.Ino, dev, file.Flags}
}

// Named implements kind.Files.
func (f *files) Named(file *scan.File) { f.tree.AddFile(file) }

// Linked implements kind.Files.
func (f *files) Linked(t *scan.Task, path string, flags uint32) (*scan.File, error) {
	file := &scan.File{Task: t, FD: -1, Beside: path, Flags: flags, MntID: -1}
	if err := statAt(t, path, &file.Stat); err != nil {
		return nil, err
	}
	key := linkKey{file.Stat.Dev, file.Stat.Ino, flags}
	if known := f.linked[key]; known != nil {
		return known, nil
	}
	if err := readLink(file); err != nil {
		return nil, err
	}
	f.linked[key] = file
	f.tree.AddFile(file)
	return file, nil
}

// Mapped implements kind.Files. The device that /proc/PID/maps shows may
// differ from what stat(2) does (btrfs, overlayfs), so it is part of a key of
// its own and the file is looked at once.
func (f *files) Mapped(t *scan.Task, v *proc.VMA, flags uint32) (*scan.File, error) {
	key := linkKey{1<<63 | uint64(v.DevMajor)<<32 | uint64(v.DevMinor), v.Inode, flags}
	if known := f.linked[key]; known != nil {
		return known, nil
	}
	path := fmt.Sprintf("map_files/%x-%x", v.Start, v.End)
	file, err := f.leased(t, path, flags)
	if file == nil && err == nil {
		file, err = f.Linked(t, path, flags)
	}
	if err == nil {
		f.linked[key] = file
	}
	return file, err
}

// leased returns the open file by which what is mapped has a lease, nil if it has none.
// It was mapped by that one, as nobody else may have the file open, nor may a restore.
func (f *files) leased(t *scan.Task, path string, flags uint32) (*scan.File, error) {
	if len(f.tree.Leased) == 0 {
		return nil, nil
	}
	var st scan.Stat
	if err := statAt(t, path, &st); err != nil {
		return nil, err
	}
	for _, o := range f.tree.Leased {
		if has := o.Flags & unix.O_ACCMODE; o.Stat.Dev == st.Dev && o.Stat.Ino == st.Ino && (has == unix.O_RDWR || has == flags) {
			return o, nil
		}
	}
	return nil, nil
}

// dumpFiles hands every open file to its kind. Kinds may make further files
// known while it goes (a file within a file), so the list may grow.
func (d *dump) dumpFiles(ctx context.Context) error {
	d.sink.expect(len(d.tree.Files))
	for i := 0; i < len(d.tree.Files); i++ {
		if err := d.ended(); err != nil {
			return err
		}
		if err := d.dumpFile(ctx, d.tree.Files[i]); err != nil {
			return err
		}
	}
	return nil
}

// dumpFile dumps a file, and before it those that it has to come behind.
func (d *dump) dumpFile(ctx context.Context, f *scan.File) error {
	k := d.kindOf(f)
	if d.taken[f.ID-1].done {
		return nil
	}
	d.taken[f.ID-1].done = true
	if o, ok := k.(kind.Ordered); ok {
		first, err := o.Behind(d.env, f)
		if err == nil && first != nil {
			err = d.dumpFile(ctx, first)
		}
		if err != nil {
			return err
		}
	}
	e, err := k.Dump(ctx, d.env, f)
	if err != nil {
		return err
	}
	e.Type, e.Id = k.Type().Enum(), proto.Uint32(f.ID)
	if err := d.kinds.DumpLocks(d.env, f); err != nil {
		return err
	}
	if r, ok := k.(kind.Reuser); ok && r.Reused(e) || d.entries >= manyEntries || len(d.tree.Files) >= manyFiles {
		return d.sink.PutNow(image.Files, e, nil)
	}
	d.entries++
	return d.sink.Put(image.Files, e, nil)
}

// manyFiles is from how many files on all their entries are encoded at once: of so many
// what is known has to be small. Of fewer, those behind the first manyEntries that
// their kinds don't have encoded anyway.
const (
	manyFiles   = 20_000
	manyEntries = 8000
)

// taken is what became of an open file.
type taken struct {
	kind uint8 // its place in the list of kinds, from 1 on; 0: nobody has asked yet
	done bool  // it is being dumped, or was
}

// kindOf returns the first kind that an open file is of; the last one takes
// all.
func (d *dump) kindOf(f *scan.File) kind.File {
	if n := len(d.tree.Files) - len(d.taken); n > 0 {
		d.taken = append(d.taken, make([]taken, n)...)
	}
	t := &d.taken[f.ID-1]
	if t.kind == 0 {
		t.kind = uint8(1 + slices.IndexFunc(d.kinds.Files, func(k kind.File) bool { return k.Match(f) }))
	}
	return d.kinds.Files[t.kind-1]
}

// putFdinfo writes who has which file under which number.
func (d *dump) putFdinfo() error {
	done := map[uint32]bool{}
	for _, t := range d.tree.Tasks {
		if t.Zombie || done[t.IDs.Files] {
			continue
		}
		done[t.IDs.Files] = true
		slices.SortFunc(t.FDs, func(a, b scan.Ref) int { return cmp.Compare(a.FD, b.FD) })
		if err := d.putTable(t); err != nil {
			return err
		}
	}
	return nil
}

func (d *dump) putTable(t *scan.Task) error {
	if d.many() && len(t.FDs) < fewInTable {
		all := make([]proto.Message, len(t.FDs))
		for i, r := range t.FDs {
			all[i] = d.fdinfo(r)
		}
		return errors.Join(d.ended(), d.sink.putAll(image.FdInfo, all, t.IDs.Files))
	}
	put := d.sink.Put
	if len(d.tree.Files) >= manyFiles {
		put = d.sink.PutNow
	}
	for _, r := range t.FDs {
		if err := d.ended(); err != nil {
			return err
		}
		if err := put(image.FdInfo, d.fdinfo(r), nil, t.IDs.Files); err != nil {
			return err
		}
	}
	if len(t.FDs) == 0 {
		d.sink.Touch(image.FdInfo, t.IDs.Files)
	}
	return nil
}

// fewInTable is how many descriptors of one of many tasks are encoded in one go.
const fewInTable = 256

func (d *dump) fdinfo(r scan.Ref) *fdinfo.FdinfoEntry {
	flags := uint32(0)
	if r.Cloexec {
		flags = unix.FD_CLOEXEC
	}
	return &fdinfo.FdinfoEntry{Id: proto.Uint32(r.File.ID), Flags: proto.Uint32(flags), Type: d.kindOf(r.File).Type().Enum(), Fd: proto.Uint32(uint32(r.FD))}
}
