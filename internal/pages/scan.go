// Package pages moves the contents of memory: it finds which pages of a task
// hold something, copies them into images and back. It decides nothing about
// mappings.
package pages

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/arch"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/proc"
)

// Span is a part of an address space or of a file, in bytes, End exclusive.
type Span struct{ Start, End uint64 }

// Len returns the size in bytes.
func (s Span) Len() uint64 { return s.End - s.Start }

// Area is a mapping in which Scan looks for pages.
type Area struct {
	Span
	// Apart says that something else is mapped below the area whose pages
	// should not be walked over.
	Apart bool
}

// Scanner looks into /proc/PID/pagemap of a stopped task. It is not safe for
// concurrent use.
type Scanner struct {
	pid   proc.PID
	fd    int
	ended func() error // see proc.Dir.Until
	vec   *regions     // nil: not needed yet, as the next
	words *pageWords
	how   method
	zero  zeroPage
}

// method is how pages are found on this kernel.
type method int

const (
	scanGuards method = iota // PAGEMAP_SCAN that tells guard regions, Linux 6.15
	scanPlain                // PAGEMAP_SCAN, Linux 6.7
	readWords                // reading the words of pagemap
)

// OpenScanner opens the pagemap of a task. Close it after use.
func OpenScanner(d *proc.Dir) (*Scanner, error) {
	n, err := d.Open("pagemap", unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	return &Scanner{pid: d.PID(), fd: n, ended: d.Ended}, nil
}

// Close closes the pagemap.
func (s *Scanner) Close() error {
	if s.vec != nil {
		vecs.Put(s.vec)
	}
	if s.words != nil {
		wordRooms.Put(s.words)
	}
	s.vec, s.words = nil, nil
	return unix.Close(s.fd)
}

// There may be a scanner for each of thousands of tasks, one after the other.
type (
	regions   [vecLen]linux.PageRegion
	pageWords [wordsPerRead * 8]byte
)

var (
	vecs      = sync.Pool{New: func() any { return new(regions) }}
	wordRooms = sync.Pool{New: func() any { return new(pageWords) }}
)

// Found is told of pages, in ascending order: s lies in areas[i]. Guards are
// parts that MADV_GUARD_INSTALL made unusable; all else holds something.
type Found func(i int, s Span, guard bool)

// Scan finds the pages in areas (ascending, apart from each other) that hold
// something of the task's own: anonymous memory, in RAM or swapped out, but
// not the zero page. Kernels 6.13 and 6.14 don't tell guards from pages that
// are swapped out: reading such pages fails.
func (s *Scanner) Scan(areas []Area, found Found) error {
	for len(areas) > 0 && s.how != readWords {
		err := s.scan(areas, found)
		switch {
		case err == nil:
			return nil
		case s.how == scanGuards && err == unix.EINVAL:
			s.how = scanPlain
		case s.how == scanPlain && (err == unix.ENOTTY || err == unix.EINVAL), err == unix.ENOTTY:
			s.how = readWords
		default:
			return fmt.Errorf("task %d: find its pages: PAGEMAP_SCAN: %w", s.pid, err)
		}
	}
	for i, a := range areas {
		if err := s.scanWords(i, a.Span, found); err != nil {
			return err
		}
	}
	return nil
}

// scan walks runs of neighbouring areas with one ioctl each. Nothing has been
// reported if it fails for want of a feature: the first call tells that.
func (s *Scanner) scan(areas []Area, found Found) error {
	for i := 0; i < len(areas); {
		n := i + 1
		for n < len(areas) && !areas[n].Apart {
			n++
		}
		if err := s.walk(areas[i:n], i, found); err != nil {
			return err
		}
		i = n
	}
	return nil
}

const (
	vecLen    = 2048    // regions per ioctl
	mostPages = 1 << 18 // and pages: 1 GiB, some milliseconds
)

func (s *Scanner) walk(run []Area, first int, found Found) error {
	if s.vec == nil {
		s.vec = vecs.Get().(*regions)
	}
	arg := linux.PmScanArg{
		Start: run[0].Start, End: run[len(run)-1].End, MaxPages: mostPages,
		CategoryInverted: linux.PAGE_IS_FILE | linux.PAGE_IS_PFNZERO, CategoryMask: linux.PAGE_IS_FILE | linux.PAGE_IS_PFNZERO,
		CategoryAnyofMask: linux.PAGE_IS_PRESENT | linux.PAGE_IS_SWAPPED, ReturnMask: linux.PAGE_IS_PFNZERO,
	}
	if s.how == scanGuards {
		arg.ReturnMask |= linux.PAGE_IS_GUARD
	}
	// The kernel says that it stopped earlier than it did if it found more than
	// 512 regions before it came to the end: it then finds some again.
	done := uint64(0)
	return linux.PagemapScan(s.fd, arg, s.vec[:], func(regions []linux.PageRegion) error {
		if err := s.ended(); err != nil {
			return err
		}
		for _, r := range regions {
			r.Start = max(r.Start, done)
			if r.Start >= r.End {
				continue
			}
			done = r.End
			for len(run) > 0 && run[0].End <= r.Start {
				run, first = run[1:], first+1
			}
			for j := 0; j < len(run) && run[j].Start < r.End; j++ {
				part := Span{max(r.Start, run[j].Start), min(r.End, run[j].End)}
				found(first+j, part, r.Categories&linux.PAGE_IS_GUARD != 0)
			}
		}
		return nil
	})
}

// wordsPerRead is how much of pagemap is read at once: 16 MiB of memory.
const wordsPerRead = 4096

// Words calls f for every page of span with its pagemap word, see
// Documentation/admin-guide/mm/pagemap.rst. Without CAP_SYS_ADMIN the page
// frame numbers are 0.
func (s *Scanner) Words(span Span, f func(addr, word uint64)) error {
	if s.words == nil {
		s.words = wordRooms.Get().(*pageWords)
	}
	for at := span.Start; at < span.End; {
		part := Span{at, min(span.End, at+wordsPerRead*arch.PageSize)}
		if err := errors.Join(s.ended(), words(s.fd, part, s.words[:], f)); err != nil {
			return fmt.Errorf("task %d: %w", s.pid, err)
		}
		at = part.End
	}
	return nil
}

// words is Words with a pagemap and a buffer of the caller's.
func words(fd int, span Span, buf []byte, f func(addr, word uint64)) error {
	for at := span.Start; at < span.End; {
		n := min((span.End-at)/arch.PageSize, uint64(len(buf)/8))
		got, err := unix.Pread(fd, buf[:n*8], int64(at/arch.PageSize*8))
		if err != nil || got < 8 {
			return fmt.Errorf("read pagemap at %#x: %w", at, orEOF(err))
		}
		for i := 0; i+8 <= got; i += 8 {
			f(at, binary.LittleEndian.Uint64(buf[i:]))
			at += arch.PageSize
		}
	}
	return nil
}

func orEOF(err error) error {
	if err == nil {
		return unix.EIO
	}
	return err
}

// pmGuard marks a page of a guard region in a pagemap word, Linux 6.15.
const pmGuard = 1 << 58

// scanWords is Scan for kernels without PAGEMAP_SCAN.
func (s *Scanner) scanWords(i int, span Span, found Found) error {
	zero, err := s.zero.get()
	if err != nil {
		return err
	}
	var cur Span
	guard := false
	flush := func() {
		if cur.End > cur.Start {
			found(i, cur, guard)
		}
	}
	err = s.Words(span, func(addr, w uint64) {
		holds := w&(linux.PM_PRESENT|linux.PM_SWAP) != 0 && w&linux.PM_FILE == 0
		if holds && w&linux.PM_PRESENT != 0 && w&linux.PM_PFN_MASK != 0 && w&linux.PM_PFN_MASK == zero {
			holds = false
		}
		g := w&pmGuard != 0
		switch {
		case !holds:
			return
		case cur.End == addr && guard == g:
			cur.End += arch.PageSize
			return
		}
		flush()
		cur, guard = Span{addr, addr + arch.PageSize}, g
	})
	flush()
	return err
}

// zeroPage knows the frame that the kernel shows where nothing was written.
type zeroPage struct {
	pfn   uint64
	known bool
}

// get finds the frame by reading a fresh page of the engine's own.
func (z *zeroPage) get() (uint64, error) {
	if z.known {
		return z.pfn, nil
	}
	page, err := unix.Mmap(-1, 0, arch.PageSize, unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return 0, fmt.Errorf("find the zero page: %w", err)
	}
	defer unix.Munmap(page) //nolint:errcheck // can't fail for what mmap returned
	if slices.Max(page) != 0 {
		return 0, fmt.Errorf("find the zero page: a fresh page is not zero")
	}
	at := uint64(reflect.ValueOf(page).Pointer())
	self, err := os.Open("/proc/self/pagemap")
	if err != nil {
		return 0, err
	}
	defer self.Close()
	var word [8]byte
	if _, err := self.ReadAt(word[:], int64(at/arch.PageSize*8)); err != nil {
		return 0, err
	}
	z.pfn, z.known = binary.LittleEndian.Uint64(word[:])&linux.PM_PFN_MASK, true
	return z.pfn, nil
}
