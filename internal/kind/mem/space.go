// Package mem is a task's address space: what is mapped where, and what the
// memory holds. Pages are a stage of their own, after all else is known.
package mem

import (
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/mm"
	"glis.dev/glis/internal/arch"
	"glis.dev/glis/internal/pages"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/remote"
	"glis.dev/glis/internal/scan"
)

// Bits of VmaEntry.status, as criu has them.
const (
	statusRegular     = 1 << 0 // a mapping that is restored
	statusStack       = 1 << 1
	statusVsyscall    = 1 << 2
	statusVdso        = 1 << 3
	statusHeap        = 1 << 5
	statusFilePrivate = 1 << 6
	statusFileShared  = 1 << 7
	statusAnonShared  = 1 << 8
	statusAnonPrivate = 1 << 9
	statusSysVIPC     = 1 << 10
	statusSocket      = 1 << 11
	statusVvar        = 1 << 12
	statusAIORing     = 1 << 13
	statusMemfd       = 1 << 14
	statusShadowStack = 1 << 15
	statusGuard       = 1 << 16 // no mapping: a guard region in one

	statusPrivate = statusFilePrivate | statusAnonPrivate
	statusFile    = statusFilePrivate | statusFileShared
	statusKnown   = statusGuard<<1 - 1
)

// Space is the address space of one task: of a frozen one, or of one that is
// to be restored.
type Space struct {
	PID   uint32       // in the images
	Entry *mm.MmEntry  // as in mm-PID.img
	areas []area       // ascending
	guard []pages.Span // guard regions

	dumped
	planned
}

// dumped is what is known of a frozen task's space only.
type dumped struct {
	task   *scan.Task
	found  []stretch // the pages to store, ascending
	stacks []uint64  // pages that stack pointers point into, ascending

	elder *Space // see elder.go; nil: it has none

	scattered bool    // there are too many of found to keep
	folded    *folded // see Fold; nil: it is not
}

// planned is what is known of a space to be restored only.
type planned struct {
	pieces   []piece // the stored pages, ascending
	pagesID  uint32  // of its pages file
	extra    uint64  // see extra.go
	elderPID uint32  // see Elder
	auxv     []byte  // as PR_SET_MM_MAP takes it
	thp      uint64  // flags of PR_SET_THP_DISABLE
	vdso     []byte  // the contents of its vdso
	store    image.Store
	parent   *Space // whose fork the task begins as

	segments *Attachable // that it attaches; nil: none
}

// area is one mapping.
type area struct {
	pages.Span
	offset  uint64 // in the file, bytes
	prot    uint32
	flags   uint32 // MAP_*
	status  uint32
	file    plan.ID
	access  uint32 // O_* that the file was opened with, for mmap's sake
	guarded bool   // of a dump: the kernel says that guard regions may be in it
	madvise uint64 // bit n is advice n
	extra   uint64 // see extra.go
	name    string // of anonymous memory
	segment uint32 // the id of System V shared memory

	first, last int    // pieces[first:last] are in it
	from        *area  // of a restore: what it is inherited from, nil if it is mapped anew
	now         uint32 // of a restore: the protection it has meanwhile
	advised     uint64 // of a restore: the advice given so far
}

func (a *area) is(status uint32) bool { return a.status&status == status }

// private tells whether the task may have pages of its own there.
func (a *area) private() bool {
	return a.is(statusAIORing) || a.is(statusRegular) && a.status&statusPrivate != 0 && !a.is(statusVvar)
}

// stored tells whether all its pages are stored, whatever they are.
func (a *area) whole() bool { return a.is(statusVdso) || a.is(statusAIORing) }

// mapped tells whether mmap(2) makes the area.
func (a *area) mapped() bool { return a.is(statusRegular) && a.status&(statusVdso|statusVvar) == 0 }

// String names the area as messages do.
func (a *area) String() string { return fmt.Sprintf("memory %x-%x", a.Start, a.End) }

// Range is a part of an address space to leave alone.
type Range struct {
	Start remote.Addr
	Size  uint64 // bytes
}

// Dumpable returns what PR_GET_DUMPABLE told; it is brought back last, since
// changes of credentials reset it.
func (s *Space) Dumpable() int32 { return s.Entry.GetDumpable() }

// Stats counts pages.
type Stats struct {
	Scanned       uint64 // pages in mappings that were looked through
	SkippedParent uint64 // not stored, since a parent task has the same page
	Written       uint64
	SharedScanned uint64 // the same of shared memory and memfds
	SharedWritten uint64
	Restored      uint64 // written into a task
	SharedCow     uint64 // not written, since the parent task has the same page
	Compared      uint64 // compared with the parent's
	Dropped       uint64 // taken away, since only the parent has them
}

// Add adds o to s.
func (s *Stats) Add(o Stats) {
	s.Scanned += o.Scanned
	s.SkippedParent += o.SkippedParent
	s.Written += o.Written
	s.SharedScanned += o.SharedScanned
	s.SharedWritten += o.SharedWritten
	s.Restored += o.Restored
	s.SharedCow += o.SharedCow
	s.Compared += o.Compared
	s.Dropped += o.Dropped
}

const page = arch.PageSize

// advices are the advice numbers that images may carry, in the order in which
// they are given.
var advices = [...]struct {
	n    uint // MADV_*
	undo int  // the advice that takes it back, -1 if nothing does
	late bool // only after the task's children were cloned
}{
	{unix.MADV_SEQUENTIAL, unix.MADV_NORMAL, false},
	{unix.MADV_RANDOM, unix.MADV_NORMAL, false},
	{unix.MADV_DONTDUMP, unix.MADV_DODUMP, false},
	{unix.MADV_HUGEPAGE, -1, false},
	{unix.MADV_NOHUGEPAGE, -1, false},
	{unix.MADV_MERGEABLE, unix.MADV_UNMERGEABLE, true},
	{unix.MADV_DONTFORK, unix.MADV_DOFORK, true},
	{unix.MADV_WIPEONFORK, unix.MADV_KEEPONFORK, true},
}
