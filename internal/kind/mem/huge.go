package mem

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/hugepages"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/pages"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/scan"
)

// Huge pages (MAP_HUGETLB) come from a pool that the machine's owner fills. A
// mapping of them consists of whole ones. There are always files behind it,
// also where a program has asked for anonymous memory.

// hugeFlags are the flags of a mapping that tell of huge pages.
const hugeFlags = unix.MAP_HUGETLB | hugepages.Mask

// unit returns what a mapping's bounds are multiples of, in bytes.
func (a *area) unit() uint64 {
	if size := hugepages.Size(a.flags); a.huge() && size != 0 {
		return size
	}
	return page
}

// huge tells whether it consists of huge pages.
func (a *area) huge() bool { return a.flags&unix.MAP_HUGETLB != 0 }

// setHuge takes down of which size a mapping's pages are.
func (s *Space) setHuge(v *proc.VMA, a *area) error {
	if !v.Flags.Has(proc.VmHugeTLB) {
		return nil
	}
	size := hugepages.OfDevice(unix.Mkdev(v.DevMajor, v.DevMinor))
	if size == 0 { // a file in a hugetlbfs that somebody has mounted
		err := s.behind(v, func(fd int) (err error) { size, err = hugepages.OfFile(fd); return err })
		if err != nil {
			return err
		}
	}
	a.flags |= unix.MAP_HUGETLB | hugepages.Flag(size)
	if a.unit() != size {
		return kind.Unsupported(fmt.Sprintf("%v, memory %v", s.task, v), "it consists of huge pages of %d bytes, a size that Glis doesn't know; use another one", size)
	}
	return nil
}

// behind calls f with the file that a mapping is of.
func (s *Space) behind(v *proc.VMA, f func(fd int) error) error {
	n, err := s.task.Dir.Open(fmt.Sprintf("map_files/%x-%x", v.Start, v.End), unix.O_PATH)
	if err != nil {
		return err
	}
	return errors.Join(f(n), unix.Close(n))
}

// isAnonHuge tells whether it is private anonymous memory of huge pages.
func isAnonHuge(v *proc.VMA) bool {
	return v.Flags.Has(proc.VmHugeTLB) && !v.Shared && v.Deleted && v.Name == hugepages.AnonName && hugepages.OfDevice(unix.Mkdev(v.DevMajor, v.DevMinor)) != 0
}

// anonymousHuge is anonymous, where a file is behind it that must be empty: the
// task has all pages of its own.
func (s *Space) anonymousHuge(v *proc.VMA, a *area) error {
	a.anonymous(v)
	var st unix.Stat_t
	err := s.behind(v, func(fd int) error { return unix.Fstat(fd, &st) })
	if err == nil && st.Blocks != 0 {
		err = kind.Unsupported(fmt.Sprintf("%v, memory %v", s.task, v), "it is a private mapping of shared memory of huge pages that has no other name; map it as shared")
	}
	return err
}

// checkHuge makes sure that a mapping of an image may consist of huge pages. criu
// does not always say of which size they are: then they are of the usual one.
func (a *area) checkHuge() error {
	if a.flags&hugeFlags == unix.MAP_HUGETLB && a.status&(statusFile|statusSysVIPC) == 0 {
		size := hugepages.Default()
		if size == 0 {
			return kind.Unsupported("huge pages (MAP_HUGETLB)", "this machine has none (CONFIG_HUGETLBFS)")
		}
		a.flags |= hugepages.Flag(size)
	}
	switch {
	case a.flags&hugeFlags == 0:
		return nil
	case !a.huge():
		return fmt.Errorf("flags %#x", a.flags)
	case a.is(statusSysVIPC): // criu does not say which size; the segment does
	case hugepages.Size(a.flags) == 0 && a.status&statusFile == 0:
		return fmt.Errorf("huge pages of no size that can be (flags %#x)", a.flags)
	case (a.Start|a.End)%a.unit() != 0 || a.flags&unix.MAP_GROWSDOWN != 0 || a.status&(statusVdso|statusVvar) != 0:
		return fmt.Errorf("huge pages of %d bytes can't be there", a.unit())
	}
	return nil
}

// WantHuge counts the huge pages that a space needs at least. What it may inherit
// from its parent (nil: none) it may share.
func (s *Space) WantHuge(w *hugepages.Wanted, parent *Space) {
	defer s.unfold()()
	for i := range s.areas {
		a := &s.areas[i]
		switch {
		case !a.huge() || !a.mapped() || a.is(statusSysVIPC):
		case a.status&statusPrivate == 0:
			if a.flags&unix.MAP_NORESERVE == 0 {
				w.Map(uint32(a.file), hugepages.Range{Start: a.offset, End: a.offset + a.Len()})
			}
		case parent != nil && parent.overlaps(a):
		case a.flags&unix.MAP_NORESERVE == 0:
			w.Add(a.unit(), a.Len())
		default:
			w.Add(a.unit(), s.stored(a))
		}
	}
}

// overlaps tells whether a space has huge pages, too, where a is.
func (s *Space) overlaps(a *area) bool {
	defer s.unfold()()
	return slices.ContainsFunc(s.areas, func(p area) bool { return p.huge() && p.Start < a.End && a.Start < p.End })
}

// stored returns how many bytes the huge pages take that an area has contents
// for.
func (s *Space) stored(a *area) (bytes uint64) {
	at, unit := a.Start, a.unit()
	for _, p := range s.pieces[a.first:a.last] {
		start, end := max(at, p.start()&^(unit-1)), (p.end()+unit-1)&^(unit-1)
		if start < end {
			bytes += end - start
			at = end
		}
	}
	return bytes
}

// inheritsHuge tells whether the task has huge pages from its parent.
func (s *Space) inheritsHuge() bool {
	for i := range s.areas {
		if a := &s.areas[i]; a.huge() && a.from != nil && a.private() {
			return true
		}
	}
	return false
}

// dataSpans returns the parts of an open file that are to be stored. A hugetlbfs
// does not tell where there are holes: unless there is none, what holds nothing
// but zeros is taken for one.
func dataSpans(fd int, f *scan.File) ([]pages.Span, error) {
	unit, err := hugepages.OfFile(fd)
	if err != nil || unit == 0 {
		return pages.DataSpans(fd, uint64(f.Stat.Size))
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	size := uint64(st.Size)
	if st.Blocks == 0 {
		return nil, nil
	}
	if uint64(st.Blocks)*512 >= size {
		return []pages.Span{{Start: 0, End: size}}, nil
	}
	return pages.NonZero(pages.FD(fd), size, unit)
}
