package file

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/criu/memfd"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/hugepages"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/plan"
)

// memfdSet is a memfd to be made again. The first of its nodes that is created
// makes it, with its contents; the others open it through hold.
type memfdSet struct {
	inode  *memfd.MemfdInodeEntry
	huge   uint64 // the size of its huge pages; 0: of usual ones
	nodes  []*memfdNode
	hold   *fd.FD
	given  bool // the original file description has been handed out
	sealed bool
}

// Bounds on what memfd.img may say.
const (
	maxMemfdName = 249     // MFD_NAME_MAX_LEN of mm/memfd.c
	maxMemfdSize = 1 << 47 // a process can't map more
	allSeals     = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE | unix.F_SEAL_FUTURE_WRITE | linux.F_SEAL_EXEC
)

// Plan implements kind.File.
func (k *Memfd) Plan(p *plan.Plan, e *fdinfo.FileEntry) error {
	in := e.GetMemfd()
	if in == nil {
		return entryError(e, "a memfd without its entry")
	}
	b, err := newBase(e, in.GetId(), in.GetFlags(), in.GetFown())
	if err != nil {
		return err
	}
	if k.sets == nil {
		if err := k.read(p.Source); err != nil {
			return err
		}
	}
	set := k.sets[uint64(in.GetInodeId())]
	switch {
	case set == nil:
		return entryError(e, "memfd %d is missing in memfd.img", in.GetInodeId())
	case in.GetPos() > 1<<63-1:
		return entryError(e, "a memfd that stands at %d: none is that long", in.GetPos())
	}
	n := &memfdNode{base: b, set: set, pos: int64(in.GetPos())}
	set.nodes = append(set.nodes, n)
	return p.Add(n)
}

func (k *Memfd) read(src plan.Source) error {
	all, err := src.Entries(image.Memfd)
	if err != nil {
		return err
	}
	k.sets = make(map[uint64]*memfdSet, len(all))
	for _, e := range all {
		m := e.Message.(*memfd.MemfdInodeEntry)
		id := m.GetInodeId()
		switch {
		case k.sets[id] != nil:
			return fmt.Errorf("memfd.img: memfd %d is there twice", id)
		case len(m.GetName()) > maxMemfdName || m.GetSize() > maxMemfdSize || m.GetSeals()&^allSeals != 0:
			return fmt.Errorf("memfd.img: memfd %d can't be: a name of %d bytes, %d bytes long, seals %#x", id, len(m.GetName()), m.GetSize(), m.GetSeals())
		}
		k.sets[id] = &memfdSet{inode: m, huge: hugepages.Size(m.GetHugetlbFlag())}
		if err := k.sets[id].checkHuge(); err != nil {
			return fmt.Errorf("memfd.img: memfd %d: %w", id, err)
		}
	}
	return nil
}

// memfdNode is one file description of a memfd.
type memfdNode struct {
	base
	set *memfdSet
	pos int64
}

// String implements plan.Node.
func (n *memfdNode) String() string {
	return fmt.Sprintf("memfd %#x: %q, %d bytes, flags %#o, at %d", n.id, n.set.inode.GetName(), n.set.inode.GetSize(), n.flags, n.pos)
}

// Create implements plan.Node.
func (n *memfdNode) Create(ctx context.Context, env *plan.Env) (*fd.FD, error) {
	if n.set.hold == nil {
		if err := n.set.create(ctx, env); err != nil {
			return nil, fmt.Errorf("memfd %q: %w", n.set.inode.GetName(), err)
		}
	}
	d, err := n.open()
	if err != nil {
		return nil, fmt.Errorf("memfd %q: %w", n.set.inode.GetName(), err)
	}
	if n.pos != 0 {
		if _, err := unix.Seek(d.Int(), n.pos, unix.SEEK_SET); err != nil {
			return nil, errors.Join(fmt.Errorf("memfd %q: go to position %d: %w", n.set.inode.GetName(), n.pos, err), d.Close())
		}
	}
	return d, nil
}

// open returns a file description with the node's flags. The original one of
// memfd_create(2) is the only one that execveat(2) takes while the file is
// open for writing, and that a lease may be beside, so it is given to the first node it
// fits, and mapped, too.
func (n *memfdNode) open() (*fd.FD, error) {
	if !n.mapped() && (n.set.given || access(n.flags) != unix.O_RDWR) {
		return reopen(n.set.hold, n.flags)
	}
	num, err := unix.FcntlInt(uintptr(n.set.hold.Int()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if n.mapped() {
		return fd.New(num), nil
	}
	n.set.given = true
	return n.ready(fd.New(num))
}

// mapped tells whether it is what a task has mapped for writing: what is open has
// O_LARGEFILE besides.
func (n *memfdNode) mapped() bool { return n.flags == unix.O_RDWR }

// seals returns what is still to be sealed. F_SEAL_SEAL alone comes from how
// the memfd is made.
func (s *memfdSet) seals() int {
	seals := int(s.inode.GetSeals())
	if s.sealed || seals == unix.F_SEAL_SEAL {
		return 0
	}
	return seals
}

// writable tells whether anybody of the tree has it open or mapped for
// writing.
func (s *memfdSet) writable() bool {
	return slices.ContainsFunc(s.nodes, func(n *memfdNode) bool { return access(n.flags) != unix.O_RDONLY })
}

// Finish implements plan.Member: seals may forbid mappings that were there
// before them, so they come when all memory is mapped. Only who may write may
// seal.
func (n *memfdNode) Finish(b plan.Batcher, own int32) error {
	if seals := n.set.seals(); seals != 0 && access(n.flags) != unix.O_RDONLY {
		b.Add(fmt.Sprintf("fcntl(%d, F_ADD_SEALS, %#x)", own, seals), unix.SYS_FCNTL, uint64(own), unix.F_ADD_SEALS, uint64(seals))
		n.set.sealed = true
	}
	return nil
}

// Late is Finish for a memfd that nobody has as a descriptor any more, or for
// reading only. It is called when all tasks have their memory and descriptors.
func (n *memfdNode) Late(context.Context, *plan.Env) error {
	defer n.Drop()
	if n.set.hold == nil {
		return nil
	}
	return n.set.seal(n.set.hold)
}

func (s *memfdSet) seal(d *fd.FD) error {
	seals := s.seals()
	if seals == 0 {
		return nil
	}
	if _, err := unix.FcntlInt(uintptr(d.Int()), unix.F_ADD_SEALS, seals); err != nil {
		return fmt.Errorf("memfd %q: seal it (%#x): %w", s.inode.GetName(), seals, err)
	}
	s.sealed = true
	return nil
}

// Drop lets go of what is held for further nodes.
func (n *memfdNode) Drop() {
	if n.set.hold != nil {
		n.set.hold.Close()
		n.set.hold = nil
	}
}

// create makes the memfd with its contents.
func (s *memfdSet) create(ctx context.Context, env *plan.Env) error {
	d, err := s.empty()
	if err != nil {
		return err
	}
	if err := s.fill(ctx, env, d); err != nil {
		return errors.Join(err, d.Close())
	}
	s.hold = d
	return nil
}

// empty makes a memfd, or, if it was that, the file behind shared anonymous
// memory.
func (s *memfdSet) empty() (*fd.FD, error) {
	if s.anonymous() {
		d, err := createShared(int(s.inode.GetSize()), s.mapFlags())
		if !errors.Is(err, unix.EPERM) {
			return d, err
		}
		// Without CAP_CHECKPOINT_RESTORE only a memfd will do, as with CRIU.
	}
	num, err := createMemfd(s.inode.GetName(), s.createFlags())
	if err != nil {
		return nil, err
	}
	return fd.New(num), nil
}

// anonymous tells whether it is the file behind shared anonymous memory.
func (s *memfdSet) anonymous() bool {
	size := s.inode.GetSize()
	return s.inode.GetName() == s.anonName() && s.inode.GetSeals() == unix.F_SEAL_SEAL && size > 0 && size%image.PageSize == 0
}

// createShared makes shared anonymous memory and returns the file behind it.
func createShared(size, flags int) (*fd.FD, error) {
	mem, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE|flags)
	if err != nil {
		return nil, fmt.Errorf("map %d bytes of shared memory: %w", size, err)
	}
	defer unix.Munmap(mem) //nolint:errcheck // the file is what is wanted
	at := reflect.ValueOf(mem).Pointer()
	num, err := unix.Open(fmt.Sprintf("/proc/self/map_files/%x-%x", at, at+uintptr(size)), unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open the file behind shared memory: %w", err)
	}
	return fd.New(num), nil
}

// createFlags: F_SEAL_SEAL alone is what a memfd without MFD_ALLOW_SEALING
// has.
func (s *memfdSet) createFlags() int {
	flags := int(s.inode.GetHugetlbFlag())
	if s.inode.GetSeals() == unix.F_SEAL_SEAL {
		return flags
	}
	return flags | unix.MFD_ALLOW_SEALING
}

// createMemfd makes a memfd that may be executed, as all could before there
// was a choice; Linux 6.3 wants to be told.
func createMemfd(name string, flags int) (int, error) {
	num, err := unix.MemfdCreate(name, flags|unix.MFD_CLOEXEC|linux.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) {
		num, err = unix.MemfdCreate(name, flags|unix.MFD_CLOEXEC)
	}
	if err != nil {
		return -1, fmt.Errorf("create: %w", err)
	}
	return num, nil
}

// fill gives a new memfd its size, contents, owner and mode.
func (s *memfdSet) fill(ctx context.Context, env *plan.Env, d *fd.FD) error {
	if err := unix.Ftruncate(d.Int(), int64(s.inode.GetSize())); err != nil {
		return fmt.Errorf("make it %d bytes long: %w", s.inode.GetSize(), err)
	}
	if err := s.fillContents(ctx, env, d); err != nil {
		return err
	}
	if err := unix.Fchown(d.Int(), int(s.inode.GetUid()), int(s.inode.GetGid())); err != nil {
		return fmt.Errorf("give it to user %d: %w", s.inode.GetUid(), err)
	}
	if s.inode.Mode != nil {
		if err := unix.Fchmod(d.Int(), s.inode.GetMode()&0o7777); err != nil {
			return fmt.Errorf("set its mode to %#o: %w", s.inode.GetMode()&0o7777, err)
		}
	}
	if s.writable() {
		return nil
	}
	return s.seal(d)
}

// pwriter writes to a descriptor without moving its position.
type pwriter struct{ d *fd.FD }

// WriteAt implements io.WriterAt.
func (w pwriter) WriteAt(b []byte, off int64) (int, error) {
	done := 0
	for done < len(b) {
		n, err := unix.Pwrite(w.d.Int(), b[done:], off+int64(done))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return done, err
		}
		done += n
	}
	return done, nil
}
