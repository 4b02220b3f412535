package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/hugepages"
	"glis.dev/glis/internal/pages"
	"glis.dev/glis/internal/plan"
)

// Memfds of huge pages (MFD_HUGETLB), and the file behind shared anonymous
// memory of them. These have no write(2).

// checkHuge makes sure that an image's memfd may consist of huge pages.
func (s *memfdSet) checkHuge() error {
	flags := s.inode.GetHugetlbFlag()
	switch {
	case flags == 0:
		return nil
	case flags&^hugepages.Mask != unix.MFD_HUGETLB || s.huge == 0:
		return fmt.Errorf("huge pages of no size that can be (flags %#x)", flags)
	case s.inode.GetSize()%s.huge != 0:
		return fmt.Errorf("%d bytes in huge pages of %d", s.inode.GetSize(), s.huge)
	}
	return nil
}

// anonName is what the file behind shared anonymous memory is called.
func (s *memfdSet) anonName() string {
	if s.huge != 0 {
		return hugepages.AnonName
	}
	return anonName
}

// mapFlags are what mmap(2) makes such memory with.
func (s *memfdSet) mapFlags() int {
	if s.huge == 0 {
		return 0
	}
	return unix.MAP_HUGETLB | int(hugepages.Flag(s.huge))
}

// Check implements plan.Checked: it counts what it needs of huge pages.
func (n *memfdNode) Check(env *plan.CheckEnv) error {
	s := n.set
	if s.huge == 0 || s.nodes[0] != n {
		return nil
	}
	var ids []uint32
	for _, n := range s.nodes {
		ids = append(ids, uint32(n.id))
	}
	holds, err := s.holds(env.Store)
	if err != nil {
		return err
	}
	env.Huge.AddFile(s.huge, ids, holds)
	return nil
}

// holds returns the parts of the memfd that images have contents for.
func (s *memfdSet) holds(store image.Store) ([]hugepages.Range, error) {
	m, err := image.OpenPagemap(store, image.PagemapShmem, uint64(s.inode.GetShmid()))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer m.Close() //nolint:errcheck // only read from
	r, err := m.Resolve()
	if err != nil {
		return nil, err
	}
	defer r.Close() //nolint:errcheck // only read from
	var out []hugepages.Range
	for _, p := range r.Pieces {
		if p.End() > s.inode.GetSize() {
			return nil, fmt.Errorf("%s: page at %#x is behind the end of the file, %d bytes", m.Name, p.Vaddr, s.inode.GetSize())
		}
		out = append(out, hugepages.Range{Start: p.Vaddr, End: p.End()})
	}
	return out, nil
}

// fillContents gives a new memfd its contents.
func (s *memfdSet) fillContents(ctx context.Context, env *plan.Env, d *fd.FD) (err error) {
	id, size := uint64(s.inode.GetShmid()), s.inode.GetSize()
	if s.huge == 0 || size == 0 {
		return pages.FillFile(ctx, env.Store, id, size, pwriter{d})
	}
	mem, err := unix.Mmap(d.Int(), 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_NORESERVE)
	if err != nil {
		return fmt.Errorf("map it: %w", err)
	}
	defer func() { err = errors.Join(err, unix.Munmap(mem)) }()
	return pages.FillFile(ctx, env.Store, id, size, pages.Memory(mem))
}
