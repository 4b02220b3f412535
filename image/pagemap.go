package image

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"

	"glis.dev/glis/image/criu/pagemap"
)

// PageSize is the unit of pagemaps, in bytes.
const PageSize = 4096

// userSpace is the end of what a pagemap may describe: 47 bits of addresses.
const userSpace = uint64(1) << 47

// Flags of a Range: where its pages are.
const (
	PageParent  uint32 = 1 << 0 // PE_PARENT: in the parent checkpoint
	PageLazy    uint32 = 1 << 1 // PE_LAZY: may be filled in after the restore
	PagePresent uint32 = 1 << 2 // PE_PRESENT: in this checkpoint's pages file
)

// Range is one entry of a pagemap: pages that are in the same place.
type Range struct {
	Vaddr  uint64 // address of the first byte; in pagemap-shmem, offset in the object
	Pages  uint64 // number of pages
	Flags  uint32
	Offset int64 // of the first page in the pages file, if PagePresent
}

// End is the address behind the last byte.
func (r Range) End() uint64 { return r.Vaddr + r.Pages*PageSize }

// PagemapFile is the pagemap of one task (row Pagemap) or of one shared memory
// object (row PagemapShmem), checked.
type PagemapFile struct {
	Name    string // of the pagemap file
	PagesID uint32 // id of the pages file
	// Ranges are sorted by address, do not overlap, are not empty, and those
	// with PagePresent lie within the pages file.
	Ranges []Range

	store Store
	row   *Row
	id    uint64
	pages ReadFile
}

// OpenPagemap reads and checks the pagemap with the given id (a PID, or a shmid)
// and opens its pages file. Close the result after use.
func OpenPagemap(s Store, r *Row, id uint64) (*PagemapFile, error) {
	p, rd, err := startPagemap(s, r, id)
	if err != nil {
		return nil, err
	}
	defer rd.Close() //nolint:errcheck // only read from
	if err := p.readRanges(rd); err != nil {
		return nil, err
	}
	if err := p.openPages(); err != nil {
		return nil, err
	}
	return p, nil
}

// startPagemap opens a pagemap and reads its head.
func startPagemap(s Store, r *Row, id uint64) (*PagemapFile, *Reader, error) {
	name := r.FileName64(id)
	rd, err := open(s, r, name)
	if err != nil {
		return nil, nil, err
	}
	var head pagemap.PagemapHead
	if err := rd.Next(&head); err != nil {
		_ = rd.Close() // the first error is the one that matters
		if errors.Is(err, io.EOF) {
			err = fileError(name, io.ErrUnexpectedEOF)
		}
		return nil, nil, err
	}
	return &PagemapFile{Name: name, PagesID: head.GetPagesId(), store: s, row: r, id: id}, rd, nil
}

// readRanges reads the entries behind the head. A page's place in the pages file
// follows from the order of the entries in the file, so sorting comes last: criu
// writes lazy and other pages of a task in separate runs.
func (p *PagemapFile) readRanges(rd *Reader) error {
	const usual, most = 16, 1 << 16 // bytes of an entry; entries allocated on the word of a file's size
	p.Ranges = make([]Range, 0, min(rd.left()/usual, most))
	err := rd.eachRange(func(r Range) error {
		p.Ranges = append(p.Ranges, r)
		return nil
	})
	if err != nil {
		return err
	}
	return p.sort()
}

// eachRange calls f for what is left of the entries of a pagemap that have pages, in the
// order of the file.
func (r *Reader) eachRange(f func(Range) error) error {
	var offset int64
	for {
		b, err := r.frame()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		x, err := decodeRange(b)
		if err == nil {
			err = checkRange(x)
		}
		if err != nil {
			return r.fail(err)
		}
		if x.Flags&PagePresent != 0 {
			x.Offset = offset
			if offset += int64(x.Pages * PageSize); offset > 1<<62 {
				return r.fail(errors.New("more pages than a file can hold"))
			}
		}
		if x.Pages == 0 {
			continue
		}
		if err := f(x); err != nil {
			return err
		}
	}
}

func checkRange(r Range) error {
	switch {
	case r.Vaddr%PageSize != 0:
		return fmt.Errorf("address %#x is not that of a page", r.Vaddr)
	case r.Vaddr >= userSpace || r.Pages > (userSpace-r.Vaddr)/PageSize:
		return fmt.Errorf("%d pages at %#x are not in user space", r.Pages, r.Vaddr)
	}
	return nil
}

func (p *PagemapFile) sort() error {
	byAddress := func(a, b Range) int {
		if a.Vaddr < b.Vaddr {
			return -1
		}
		if a.Vaddr > b.Vaddr {
			return 1
		}
		return 0
	}
	if !slices.IsSortedFunc(p.Ranges, byAddress) {
		slices.SortFunc(p.Ranges, byAddress)
	}
	for i := 1; i < len(p.Ranges); i++ {
		a, b := p.Ranges[i-1], p.Ranges[i]
		if a.End() > b.Vaddr {
			return fileError(p.Name, fmt.Errorf("pages %#x-%#x and %#x-%#x overlap", a.Vaddr, a.End(), b.Vaddr, b.End()))
		}
	}
	return nil
}

// openPages opens the pages file, if there are pages in it, and checks that it
// is long enough.
func (p *PagemapFile) openPages() error {
	var need int64
	for _, r := range p.Ranges {
		if r.Flags&PagePresent != 0 {
			need = max(need, r.Offset+int64(r.Pages*PageSize))
		}
	}
	if need == 0 {
		return nil
	}
	name := Pages.FileName(p.PagesID)
	f, err := p.store.Open(name)
	if err != nil {
		return fileError(p.Name, fmt.Errorf("its pages: %w", err))
	}
	if f.Size() < need {
		_ = f.Close() // the error below is the one that matters
		return &Error{File: name, Offset: f.Size(), Err: fmt.Errorf("file is cut, %s needs %d bytes: %w", p.Name, need, io.ErrUnexpectedEOF)}
	}
	p.pages = f
	return nil
}

// Pages is the open pages file, owned by the PagemapFile; nil if no page is in
// it.
func (p *PagemapFile) Pages() ReadFile { return p.pages }

// Find returns the index of the range that address is in.
func (p *PagemapFile) Find(address uint64) (i int, ok bool) {
	i = sort.Search(len(p.Ranges), func(i int) bool { return p.Ranges[i].End() > address })
	return i, i < len(p.Ranges) && p.Ranges[i].Vaddr <= address
}

// Close closes the pages file.
func (p *PagemapFile) Close() error {
	if p.pages == nil {
		return nil
	}
	return p.pages.Close()
}
