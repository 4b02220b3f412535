package file

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/criu/fown"
	"glis.dev/glis/image/criu/memfd"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/hugepages"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/scan"
)

// Memfd is memfd_create(2), and the file behind shared anonymous memory, which
// CRIU's images have as a memfd called "/dev/zero", or "/anon_hugepage". What they hold is a part of
// memory and is written by that stage, as pagemap-shmem-INODE.img.
type Memfd struct {
	dev    uint64              // of a dump: the kernel's own tmpfs
	inodes map[inodeKey]uint32 // of a dump: numbers in memfd.img
	sets   map[uint64]*memfdSet
}

// Type implements kind.File.
func (*Memfd) Type() fdinfo.FdTypes { return fdinfo.FdTypes_MEMFD }

const (
	memfdPrefix = "/memfd:"
	anonName    = "/dev/zero" // what the kernel calls shared anonymous memory
)

// Match implements kind.File.
func (k *Memfd) Match(f *scan.File) bool {
	return f.Stat.Mode&unix.S_IFMT == unix.S_IFREG && f.Stat.Nlink == 0 &&
		strings.HasSuffix(f.Link, deletedSuffix) &&
		(strings.HasPrefix(f.Link, memfdPrefix) || f.Link == anonName+deletedSuffix || f.Link == hugepages.AnonName+deletedSuffix) &&
		(k.isDevice(f.Stat.Dev) || hugepages.OfDevice(f.Stat.Dev) != 0)
}

// isDevice tells whether memfds are on a tmpfs. That can't be told if none can be
// made: what looks like one is one then, and its Dump fails.
func (k *Memfd) isDevice(dev uint64) bool {
	own, err := k.device()
	return err != nil || own == dev
}

// device returns the number of the tmpfs that memfds are on; a file elsewhere
// may be called as one.
func (k *Memfd) device() (uint64, error) {
	if k.dev != 0 {
		return k.dev, nil
	}
	n, err := createMemfd("glis", 0)
	if err != nil {
		return 0, fmt.Errorf("which file system are memfds on? %w", err)
	}
	defer unix.Close(n)
	var st unix.Stat_t
	if err := unix.Fstat(n, &st); err != nil {
		return 0, fmt.Errorf("which file system are memfds on? fstat: %w", err)
	}
	k.dev = st.Dev
	return k.dev, nil
}

// Dump implements kind.File.
func (k *Memfd) Dump(_ context.Context, env *kind.DumpEnv, f *scan.File) (*fdinfo.FileEntry, error) {
	d, own, err := look(env, f)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	key := inodeKey{f.Stat.Dev, f.Stat.Ino}
	id := k.inodes[key]
	if id == 0 {
		if k.inodes == nil {
			k.inodes = map[inodeKey]uint32{}
		}
		id = uint32(len(k.inodes)) + 1
		k.inodes[key] = id
		if err := k.dumpInode(env, f, d, id); err != nil {
			return nil, err
		}
	}
	return &fdinfo.FileEntry{Memfd: &memfd.MemfdFileEntry{Id: proto.Uint32(f.ID), Flags: proto.Uint32(f.Flags), Pos: proto.Uint64(uint64(f.Pos)), Fown: own, InodeId: proto.Uint32(id)}}, nil
}

// look opens a file for questions: a descriptor is borrowed, what is only
// mapped, or was opened with O_PATH, has no owner.
func look(env *kind.DumpEnv, f *scan.File) (*fd.FD, *fown.FownEntry, error) {
	if f.FD < 0 || f.Flags&unix.O_PATH != 0 {
		n, err := f.Task.Dir.Open(f.Path(), unix.O_RDONLY)
		if err != nil {
			return nil, nil, err
		}
		return fd.New(n), noOwner(), nil
	}
	d, err := f.Borrow()
	if err != nil {
		return nil, nil, err
	}
	own, err := readOwner(env, f, d)
	if err != nil {
		return nil, nil, errors.Join(err, d.Close())
	}
	return d, own, nil
}

func (k *Memfd) dumpInode(env *kind.DumpEnv, f *scan.File, d *fd.FD, id uint32) error {
	dev, err := k.device()
	if err == nil && f.Stat.Dev != dev && hugepages.OfDevice(f.Stat.Dev) == 0 {
		err = fmt.Errorf("it is called as a memfd, and is on another file system (device %#x)", f.Stat.Dev)
	}
	if err != nil {
		return fmt.Errorf("%v: %w", f, err)
	}
	if err := errors.Join(plainAttributes(f, d), plainFlags(f, d)); err != nil {
		return err
	}
	seals, err := unix.FcntlInt(uintptr(d.Int()), unix.F_GET_SEALS, 0)
	if err != nil {
		return fmt.Errorf("%v: ask for its seals: %w", f, err)
	}
	name := strings.TrimSuffix(f.Link, deletedSuffix)
	name = strings.TrimPrefix(name, memfdPrefix)
	e := &memfd.MemfdInodeEntry{
		Name: proto.String(name), Uid: proto.Uint32(f.Stat.UID), Gid: proto.Uint32(f.Stat.GID), Size: proto.Uint64(uint64(f.Stat.Size)),
		Shmid: proto.Uint32(uint32(f.Stat.Ino)), Seals: proto.Uint32(uint32(seals)), InodeId: proto.Uint64(uint64(id)), Mode: proto.Uint32(f.Stat.Mode),
	}
	if f.Stat.Dev != dev {
		e.HugetlbFlag = proto.Uint32(unix.MFD_HUGETLB | hugepages.Flag(hugepages.OfDevice(f.Stat.Dev)))
		e.Shmid = proto.Uint32(hugepages.SharedID(f.Stat.Dev, f.Stat.Ino))
	}
	return env.Images.Put(image.Memfd, e, nil)
}
