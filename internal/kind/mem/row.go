package mem

import (
	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/remote"
)

// A task may have tens of thousands of small mappings that lie side by side
// and differ in protection only: stacks and their guards, arenas of an
// allocator. It is cheaper to map such a row as one and to protect parts of it
// than to map each.

// largestPart is the largest part of a row, in bytes, that is not to be
// writable: for a moment it counts as if it were.
const largestPart = 16 * page

// row returns how many areas from area i on are mapped as one.
func (s *Space) row(i int) int {
	n := 1
	for i+n < len(s.areas) && s.areas[i+n-1].rowable() && s.areas[i+n-1].continued(&s.areas[i+n]) {
		n++
	}
	return n
}

// rowable tells whether an area may be part of a row: private memory that is
// writable, or that may be for a moment.
func (a *area) rowable() bool {
	const never = statusFile | statusSocket | statusAnonShared | statusVdso | statusVvar
	return a.mapped() && !a.huge() && a.status&never == 0 && a.from == nil && a.prot&unix.PROT_EXEC == 0 && a.flags&unix.MAP_GROWSDOWN == 0 &&
		(a.prot&unix.PROT_WRITE != 0 || a.Len() <= largestPart)
}

// continued tells whether b continues the row of a.
func (a *area) continued(b *area) bool {
	return b.Start == a.End && b.rowable() && (b.flags^a.flags)&sameKind == 0 && b.madvise == a.madvise && b.name == a.name
}

// mapRow maps the n areas from area i on. Their protection comes from the end
// on: the row is then split where it is shortest.
func (s *Space) mapRow(b *remote.Batch, i, n int) {
	whole := s.areas[i]
	whole.End = s.areas[i+n-1].End
	whole.prot = unix.PROT_READ | unix.PROT_WRITE
	whole.mmap(b, nil)
	b.Expect(s.protects(i, n))
	for j := i + n - 1; j >= i; j-- {
		a := &s.areas[j]
		a.now, a.advised = a.writable(), whole.advised
		if a.now != whole.prot {
			b.Call("mprotect", unix.SYS_MPROTECT, a.Start, a.Len(), uint64(a.now))
		}
	}
}

// protects is how many of the n areas from area i on are to be protected.
func (s *Space) protects(i, n int) (calls int) {
	for j := i; j < i+n; j++ {
		if s.areas[j].writable() != unix.PROT_READ|unix.PROT_WRITE {
			calls++
		}
	}
	return calls
}

// writable is the protection of an area while contents are still to come.
func (a *area) writable() uint32 {
	if a.last > a.first {
		return a.prot | unix.PROT_WRITE
	}
	return a.prot
}
