package mem

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/image/protowire"
	"glis.dev/glis/internal/arch"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/pages"
)

// Limits of what an image may ask for.
const (
	mostAreas = 1 << 20
	mostAuxv  = 1 << 9 // bytes; the kernel's own limit is below
	mostName  = 80     // ANON_VMA_NAME_MAX_LEN, with its NUL
	mostVdso  = 1 << 16
)

// Read reads and checks what a task's images say of its memory: mm-PID.img
// and pagemap-PID.img. What it returns can be relied on: mappings in order and
// apart, in user space, of known sorts, with stored pages only where a task
// can have pages of its own.
func Read(store image.Store, pid uint32) (*Space, error) { return new(Alike).Read(store, pid) }

// Alike is what the address spaces of a tree have in common when they are read.
type Alike struct {
	mu   sync.Mutex
	vdso []byte
	auxv []byte
}

// Read is Read of one of these. Several may be read at a time.
func (l *Alike) Read(store image.Store, pid uint32) (*Space, error) {
	raw, err := rawEntry(store, pid)
	if err != nil {
		return nil, err
	}
	s := &Space{PID: pid}
	s.store = store
	if err := s.readEntry(raw); err != nil {
		return nil, fmt.Errorf("%s: %w", image.MM.FileName(pid), err)
	}
	if err := s.readPagemap(); err != nil {
		return nil, err
	}
	l.share(s)
	return s, nil
}

// share has a space use the vdso and auxiliary vector that another one has, if they are the
// same.
func (l *Alike) share(s *Space) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if bytes.Equal(s.vdso, l.vdso) {
		s.vdso = l.vdso
	} else if s.vdso != nil {
		l.vdso = s.vdso
	}
	if bytes.Equal(s.auxv, l.auxv) {
		s.auxv = l.auxv
	} else {
		l.auxv = s.auxv
	}
}

func (s *Space) readEntry(raw []byte) error {
	e, vmas, err := splitEntry(raw)
	if err != nil {
		return err
	}
	s.Entry = e
	switch {
	case vmas > mostAreas:
		return fmt.Errorf("%d mappings are more than a task can have", vmas)
	case vmas == 0:
		return errors.New("no mappings in it (written by criu before 2.0?)")
	}
	if err := s.readAuxv(); err != nil {
		return err
	}
	s.areas = make([]area, 0, vmas)
	err = eachPart(raw, func(_, vma []byte) error {
		if vma == nil {
			return nil
		}
		a, err := decodeArea(vma)
		if err == nil {
			err = s.readArea(&a)
		}
		if err != nil {
			return fmt.Errorf("mapping %x-%x: %w", a.Start, a.End, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := s.checkRings(); err != nil {
		return err
	}
	return s.checkGuards()
}

func (s *Space) readAuxv() error {
	for _, v := range s.Entry.MmSavedAuxv {
		s.auxv = binary.LittleEndian.AppendUint64(s.auxv, v)
	}
	err := eachField(s.Entry.Unknown(), func(n protowire.Number, v uint64, b []byte) error {
		switch n {
		case mmExtra:
			s.extra = v
		case mmAuxv:
			s.auxv = append(s.auxv, b...)
		case mmElder:
			return s.readElder(v)
		case mmTHP:
			s.thp = v
		}
		return nil
	})
	if err == nil && (len(s.auxv) > mostAuxv || len(s.auxv)%16 != 0) {
		err = fmt.Errorf("auxiliary vector of %d bytes", len(s.auxv))
	}
	s.Entry.MmSavedAuxv = nil
	s.Entry.SetUnknown(nil)
	return err
}

// mapFlags are the mmap(2) flags that an image may have.
const mapFlags = unix.MAP_SHARED | unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_GROWSDOWN | unix.MAP_LOCKED | unix.MAP_NORESERVE | linux.MAP_DROPPABLE | hugeFlags

func (s *Space) readArea(a *area) error {
	if a.is(statusVsyscall) {
		return nil // every task has it, at its fixed address
	}
	if a.Start >= a.End || a.Start%page != 0 || a.End%page != 0 || a.End > arch.TaskSize {
		return errors.New("no such addresses can be")
	}
	if a.status == statusGuard {
		s.guard = append(s.guard, a.Span)
		return nil
	}
	if n := len(s.areas); n > 0 && s.areas[n-1].End > a.Start {
		return errors.New("it is not behind the one before it")
	}
	if err := a.check(); err != nil {
		return err
	}
	s.areas = append(s.areas, *a)
	return nil
}

// check refuses what is not known or makes no sense.
func (a *area) check() error {
	if err := a.checkSort(); err != nil {
		return err
	}
	const prot = unix.PROT_READ | unix.PROT_WRITE | unix.PROT_EXEC
	known := uint64(0)
	for _, x := range &advices {
		known |= 1 << x.n
	}
	switch {
	case a.prot&^prot != 0:
		return fmt.Errorf("protection %#x", a.prot)
	case a.flags&^mapFlags != 0:
		return fmt.Errorf("flags %#x", a.flags)
	case a.madvise&^known != 0:
		return fmt.Errorf("advice %#x", a.madvise)
	case a.offset%page != 0 || a.offset > 1<<62:
		return fmt.Errorf("offset %#x", a.offset)
	case a.access&^(unix.O_ACCMODE|unix.O_LARGEFILE) != 0 || a.access&unix.O_ACCMODE == unix.O_ACCMODE:
		return fmt.Errorf("file opened with %#x", a.access)
	case a.extra&^(extraLockOnFault|extraSealed) != 0:
		return fmt.Errorf("properties %#x are of a newer Glis", a.extra)
	case len(a.name) >= mostName:
		return fmt.Errorf("name of %d bytes", len(a.name))
	}
	a.access &= unix.O_ACCMODE
	if err := a.checkHuge(); err != nil {
		return err
	}
	return a.checkFile()
}

// checkSort makes sure that flags and status agree on what it is.
func (a *area) checkSort() error {
	const sorts = statusPrivate | statusFileShared | statusAnonShared
	switch {
	case a.status&^uint32(statusKnown) != 0:
		return fmt.Errorf("status %#x is not known", a.status)
	case a.status == statusAIORing && a.flags == unix.MAP_SHARED:
		return nil
	case a.status == statusRegular|statusSocket:
		return a.checkSocket()
	case a.status&(statusSocket|statusAIORing|statusShadowStack) != 0:
		return kind.Unsupported(fmt.Sprintf("memory of a special sort (status %#x)", a.status), "Glis can't restore shadow stacks yet")
	case !a.is(statusRegular):
		return fmt.Errorf("status %#x is that of no mapping", a.status)
	}
	share := a.flags & (unix.MAP_SHARED | unix.MAP_PRIVATE | linux.MAP_DROPPABLE)
	anon := a.flags&unix.MAP_ANONYMOUS != 0
	ok := false
	switch a.status & sorts {
	case statusAnonPrivate:
		ok = anon && (share == unix.MAP_PRIVATE || share == linux.MAP_DROPPABLE)
	case statusAnonShared:
		ok = anon && share == unix.MAP_SHARED
	case statusFilePrivate:
		ok = !anon && share == unix.MAP_PRIVATE
	case statusFileShared:
		ok = !anon && share == unix.MAP_SHARED
	}
	if a.is(statusSysVIPC) {
		ok = ok && a.status&^uint32(statusSysVIPC) == statusRegular|statusAnonShared
	}
	if ok && a.status&(statusVdso|statusVvar) != 0 {
		ok = a.status&sorts == statusAnonPrivate && a.status&(statusVdso|statusVvar) != statusVdso|statusVvar
	}
	if !ok {
		return fmt.Errorf("status %#x and flags %#x don't go together", a.status, a.flags)
	}
	return nil
}

// checkFile makes sure that a mapping of a file says which.
func (a *area) checkFile() error {
	switch {
	case a.is(statusSysVIPC):
		a.segment, a.file = uint32(a.file), 0
	case a.is(statusAnonShared):
		return kind.Unsupported("shared memory written by criu without root", "dump with criu as root, or with Glis")
	case a.status&(statusFile|statusSocket) == 0:
		a.file = 0 // what criu has there means nothing to others
	case a.file == 0:
		return errors.New("no file for a mapping of one")
	}
	return nil
}

// checkGuards makes sure that guard regions are in private memory, each in
// one mapping.
func (s *Space) checkGuards() error {
	slices.SortFunc(s.guard, func(a, b pages.Span) int { return compareUint(a.Start, b.Start) })
	for i, g := range s.guard {
		if i > 0 && s.guard[i-1].End > g.Start {
			return fmt.Errorf("guard regions at %#x overlap", g.Start)
		}
		for at := g.Start; at < g.End; {
			a := s.at(at)
			if a == nil || !a.mapped() {
				return fmt.Errorf("guard region %x-%x is in no mapping", g.Start, g.End)
			}
			at = a.End
		}
	}
	return nil
}

func compareUint(a, b uint64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// at returns the area that an address is in, or nil.
func (s *Space) at(addr uint64) *area {
	i, found := slices.BinarySearchFunc(s.areas, addr, func(a area, addr uint64) int { return compareUint(a.Start, addr) })
	if found {
		return &s.areas[i]
	}
	if i > 0 && s.areas[i-1].End > addr {
		return &s.areas[i-1]
	}
	return nil
}

// readPagemap reads which pages are stored.
func (s *Space) readPagemap() error {
	name := image.Pagemap.FileName(s.PID)
	var vdso []image.Piece // that its contents are in
	code, _ := s.kernels()
	take := func(p image.Piece) error {
		if p.Source == nil {
			return kind.Unsupported(fmt.Sprintf("%s: pages at %#x that are in no file", name, p.Vaddr), "they were to be fetched later from a page server")
		}
		own, err := newPiece(pages.Span{Start: p.Vaddr, End: p.End()}, p.Offset, p.Depth > 0)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		s.addPiece(own)
		if code != nil && p.Vaddr < code.End && p.End() > code.Start {
			vdso = append(vdso, p)
		}
		return nil
	}
	m, r, err := s.eachPiece(take)
	if err != nil {
		return err
	}
	defer m.Close() //nolint:errcheck // only read from
	defer r.Close() //nolint:errcheck // only read from
	s.pagesID = m.PagesID
	if stray, ok := s.assign(); !ok {
		return fmt.Errorf("%s: page at %#x is in no mapping that has pages of its own", name, stray)
	}
	return s.readVdso(vdso)
}

// eachPiece calls take for all pieces of the task's pagemap, by address. What it returns
// has their files open.
func (s *Space) eachPiece(take func(image.Piece) error) (*image.PagemapFile, *image.Resolved, error) {
	ready := func(n int) { s.pieces = make([]piece, 0, n+len(s.areas)) } // some are split
	r := &image.Resolved{}
	m, err := image.StreamPagemap(s.store, image.Pagemap, uint64(s.PID), ready, take)
	if m != nil || err != nil {
		return m, r, err
	}
	if m, err = image.OpenPagemap(s.store, image.Pagemap, uint64(s.PID)); err != nil {
		return nil, nil, err
	}
	ready(len(m.Ranges))
	ok, err := m.Whole(take)
	if err == nil && !ok {
		if r, err = m.Resolve(); err == nil {
			for _, p := range r.Pieces {
				err = errors.Join(err, take(p))
			}
		}
	}
	if err != nil {
		return nil, nil, errors.Join(err, r.Close(), m.Close())
	}
	return m, r, nil
}
