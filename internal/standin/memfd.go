package standin

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/sockmem"
)

const memfdPrefix = "memfd:"

// mostPages is how many pages of a memfd are copied: 1 GiB, since the tree stands still.
const mostPages = 1 << 18

func memfdNames() []string {
	return []string{
		"inode.i_size", "inode.i_mapping", "address_space.i_pages", "address_space.i_mmap", "xarray.xa_head", "xa_node.shift", "xa_node.slots",
		"shmem_inode_info.vfs_inode", "shmem_inode_info.seals", "page.flags", "pageflags.PG_uptodate",
	}
}

// memfdLike makes a memfd with the same contents.
func memfdLike(k *Maker, x *sockmem.Lone) (*fd.FD, error) {
	name, err := k.memory.Name(x.At)
	if err != nil {
		return nil, err
	}
	name, ok := strings.CutPrefix(name, memfdPrefix)
	if !ok {
		return nil, unlike("it is memory that processes share")
	}
	mapping, err := k.memory.Pointer(x.Inode + k.memory.Off("inode.i_mapping"))
	if err != nil {
		return nil, err
	}
	mapped, err := k.memory.Pointer(mapping + k.memory.Off("address_space.i_mmap"))
	if err != nil {
		return nil, err
	}
	if mapped != 0 {
		return k.mappedMemfd(x)
	}
	n, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	o := &original{file: fd.New(n), made: true}
	k.same[x.Inode] = o // who closes it
	if err := k.fillMemfd(x, mapping, n); err != nil {
		return nil, err
	}
	return o.again(x)
}

// mappedMemfd opens a memfd by way of who has mapped it.
func (k *Maker) mappedMemfd(x *sockmem.Lone) (*fd.FD, error) {
	own, err := k.Mapped(x.Inode)
	if err != nil {
		return nil, err
	}
	if own == nil {
		return nil, unlike("it is a memfd that is mapped by no task of the tree, but elsewhere")
	}
	k.Known(x.Inode, own)
	return k.same[x.Inode].again(x)
}

// fillMemfd gives a memfd the contents of another one, and all that its inode has.
func (k *Maker) fillMemfd(x *sockmem.Lone, mapping kmem.Addr, to int) error {
	m := k.memory
	size, err := m.Pointer(x.Inode + m.Off("inode.i_size"))
	if err != nil {
		return err
	}
	if err := unix.Ftruncate(to, int64(size)); err != nil {
		return fmt.Errorf("give a memfd %d bytes: %w", size, err)
	}
	top, err := m.Pointer(mapping + m.Off("address_space.i_pages") + m.Off("xarray.xa_head"))
	if err != nil {
		return err
	}
	w := &pageWalk{maker: k, to: to, size: uint64(size)}
	if err := w.entry(top, 0, 1, 64); err != nil {
		return err
	}
	if err := errors.Join(unix.Fchmod(to, x.Mode&0o7777), unix.Fchown(to, int(x.UID), int(x.GID))); err != nil {
		return fmt.Errorf("give a memfd its owner and mode: %w", err)
	}
	var seals [4]byte
	if err := m.ReadAt(seals[:], x.Inode-m.Off("shmem_inode_info.vfs_inode")+m.Off("shmem_inode_info.seals")); err != nil {
		return err
	}
	if _, err := unix.FcntlInt(uintptr(to), unix.F_ADD_SEALS, int(binary.NativeEndian.Uint32(seals[:]))); err != nil {
		return fmt.Errorf("seal a memfd: %w", err)
	}
	return nil
}

// pageWalk copies the pages of a file, which the kernel keeps in a tree (struct xarray).
type pageWalk struct {
	maker *Maker
	to    int
	size  uint64 // of the file, in bytes
	pages int
}

// Entries of an xarray, see include/linux/xarray.h.
const (
	chunkShift = 6
	chunkSize  = 1 << chunkShift
	leastNode  = 4096 // internal entries below have a meaning of their own: siblings, mostly
)

func internal(e kmem.Addr) bool { return e&3 == 2 }
func isNode(e kmem.Addr) bool   { return internal(e) && e > leastNode }

// entry copies what is behind one, from a page number on. It covers so many pages if it
// is no node, whose shift is below that of the one above it.
func (w *pageWalk) entry(e kmem.Addr, from, covers, below uint64) error {
	switch {
	case e == 0:
		return nil
	case isNode(e):
		return w.node(e-2, from, below)
	case e&3 != 0: // it was written to swap
		return unlike("a part of it is in swap")
	}
	return w.folio(e, from, covers)
}

func (w *pageWalk) node(at kmem.Addr, from, below uint64) error {
	m := w.maker.memory
	var b [8 * chunkSize]byte
	if err := m.ReadAt(b[:1], at+m.Off("xa_node.shift")); err != nil {
		return err
	}
	shift := uint64(b[0])
	if shift >= below {
		return unlike("the kernel's memory of it has changed while it was read")
	}
	if err := m.ReadAt(b[:], at+m.Off("xa_node.slots")); err != nil {
		return err
	}
	slot := func(i int) kmem.Addr { return kmem.Addr(binary.NativeEndian.Uint64(b[8*i:])) }
	for i := 0; i < chunkSize; i++ {
		first := i
		for i+1 < chunkSize && internal(slot(i+1)) && !isNode(slot(i+1)) { // siblings
			i++
		}
		if err := w.entry(slot(first), from+uint64(first)<<shift, uint64(i+1-first)<<shift, shift); err != nil {
			return err
		}
	}
	return nil
}

// folio copies pages that are one piece.
func (w *pageWalk) folio(at kmem.Addr, from, n uint64) error {
	m := w.maker.memory
	flags, err := m.Pointer(at + m.Off("page.flags"))
	if err != nil {
		return err
	}
	if flags>>m.Off("pageflags.PG_uptodate")&1 == 0 {
		return nil // nobody has written to it
	}
	page := uint64(unix.Getpagesize())
	b := make([]byte, page)
	for i := range n {
		if (from+i)*page >= w.size {
			return nil
		}
		if w.pages++; w.pages > mostPages {
			return unlike("it has more than %d MiB", mostPages*page>>20)
		}
		data, err := m.Page(at + kmem.Addr(i)*m.Off("page"))
		if err == nil {
			err = m.ReadAt(b, data)
		}
		if err != nil {
			return err
		}
		part := b[:min(page, w.size-(from+i)*page)]
		if got, err := unix.Pwrite(w.to, part, int64((from+i)*page)); err != nil || got != len(part) {
			return fmt.Errorf("write into a memfd: %d of %d bytes: %w", got, len(part), err)
		}
	}
	return nil
}
