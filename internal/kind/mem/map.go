package mem

import (
	"cmp"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/arch"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/pages"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/remote"
)

// Use is a file that a task needs while its memory is mapped.
type Use struct {
	ID     plan.ID
	Access uint32 // O_RDONLY or O_RDWR: what the descriptor must allow
}

// Files returns the files that Map needs, each once.
func (s *Space) Files() []Use {
	defer s.unfold()()
	seen := map[Use]bool{}
	var out []Use
	for i := range s.areas {
		a := &s.areas[i]
		if u := a.use(); a.file != 0 && a.from == nil && !seen[u] {
			seen[u] = true
			out = append(out, u)
		}
	}
	return out
}

func (a *area) use() Use { return Use{ID: a.file, Access: a.access} }

// Room that a task's batches need, in bytes: for each mapping at most one
// entry to map it, two to lock it, one to seal it, and some for advice.
const (
	callsPerArea = 7
	roomPerDrop  = arch.EntrySize
)

// BatchSize returns the room in bytes that the batches of Clear, Map and
// Finish need at most.
func (s *Space) BatchSize() uint64 {
	defer s.unfold()()
	// Areas may be split at the bounds of the parent's: room for twice as many.
	n := uint64(16<<10) + uint64(2*len(s.areas)*callsPerArea+len(s.guard))*arch.EntrySize
	for i := range s.areas {
		n += uint64(len(s.areas[i].name) + 16)
	}
	return n + uint64(min(len(s.pieces)+len(s.areas), 1<<16))*roomPerDrop
}

// Hole finds size bytes of address space, from above on, that no task has
// anything in, nor close by.
func Hole(spaces []*Space, size uint64, above uint64) (remote.Addr, error) {
	var taken []pages.Span
	for _, s := range spaces {
		if taken = s.taken(taken); len(taken) > 2*mostTaken {
			taken = joined(taken)
		}
	}
	taken = joined(taken)
	at := above
	for _, t := range taken {
		if t.Start >= at && t.Start-at >= size {
			break
		}
		at = max(at, t.End)
	}
	if at+size < at || at+size > arch.TaskSize {
		return 0, fmt.Errorf("no hole of %d KiB in the address spaces of %d tasks for Glis's own memory", size>>10, len(spaces))
	}
	return remote.Addr(at), nil
}

// mostTaken is of about how many places it is noted how they overlap.
const mostTaken = 2048

// taken appends where the task has something, or close by.
func (s *Space) taken(to []pages.Span) []pages.Span {
	defer s.unfold()()
	from := len(to)
	for i := range s.areas {
		a := s.areas[i].Span
		a.End += page
		if s.areas[i].is(statusVvar) {
			a.End += mostVdso // where mapVdso has the code for a moment
		}
		if s.areas[i].flags&unix.MAP_GROWSDOWN != 0 {
			a.Start -= min(a.Start, stackGap)
		} else {
			a.Start -= min(a.Start, page)
		}
		if n := len(to); n > from && to[n-1].Start <= a.Start && a.Start <= to[n-1].End {
			to[n-1].End = max(to[n-1].End, a.End)
		} else {
			to = append(to, a)
		}
	}
	return to
}

// joined returns the same, ascending and apart.
func joined(all []pages.Span) []pages.Span {
	slices.SortFunc(all, func(a, b pages.Span) int { return cmp.Compare(a.Start, b.Start) })
	out := all[:0]
	for _, s := range all {
		if n := len(out); n > 0 && s.Start <= out[n-1].End {
			out[n-1].End = max(out[n-1].End, s.End)
		} else {
			out = append(out, s)
		}
	}
	return out
}

// stackGap is what the kernel keeps free below a stack by default
// (stack_guard_gap), in bytes.
const stackGap = 256 * page

// Clear queues the removal of all that the task has, but for what keep says
// and what it inherits from its parent for good. parent is nil for the root,
// which was cloned from a stub.
func (s *Space) Clear(b *remote.Batch, parent *Space, keep ...Range) {
	s.link(parent)
	var stay []pages.Span
	for _, k := range keep {
		stay = append(stay, pages.Span{Start: uint64(k.Start), End: uint64(k.Start) + k.Size})
	}
	for i := range s.areas {
		if s.areas[i].from != nil {
			stay = append(stay, s.areas[i].Span)
		}
	}
	slices.SortFunc(stay, func(a, b pages.Span) int { return cmp.Compare(a.Start, b.Start) })
	at := uint64(0)
	for _, k := range stay {
		if k.Start > at {
			b.Call("munmap", unix.SYS_MUNMAP, at, k.Start-at)
		}
		at = max(at, k.End)
	}
	if at < arch.TaskSize {
		b.Call("munmap", unix.SYS_MUNMAP, at, arch.TaskSize-at)
	}
}

// Map queues the making of all mappings, empty and writable where contents
// will come, and of what is to change in those that are inherited. num tells
// the descriptor that the task has of a file of Files. Clear comes before.
func (s *Space) Map(b *remote.Batch, num func(Use) uint64, parent *Space) error {
	if parent != s.parent {
		return fmt.Errorf("task %d: mapped as a child of another task than it was cleared for", s.PID)
	}
	off := uint64(0)
	if s.Entry.GetThpDisabled() {
		off = 1
	}
	b.Call("prctl(PR_SET_THP_DISABLE)", unix.SYS_PRCTL, linux.PR_SET_THP_DISABLE, off, off*s.thp)
	s.mapVdso(b)
	if err := s.attachAll(b); err != nil {
		return err
	}
	for i, n := 0, 0; i < len(s.areas); i += n {
		a := &s.areas[i]
		n = s.row(i)
		switch {
		case !a.mapped():
		case a.from != nil:
			s.adapt(b, a)
		case a.is(statusSysVIPC): // attached already
		case n > 1:
			s.mapRow(b, i, n)
		default:
			a.mmap(b, num)
		}
	}
	return nil
}

// mmap maps an area anew.
func (a *area) mmap(b *remote.Batch, num func(Use) uint64) {
	a.now, a.advised = a.writable(), 0
	flags := a.flags&^unix.MAP_LOCKED | unix.MAP_FIXED_NOREPLACE
	fd, off := ^uint64(0), uint64(0)
	if a.file != 0 {
		flags &^= hugeFlags // the file says it
		fd, off = num(a.use()), a.offset
	}
	b.Call("mmap", unix.SYS_MMAP, a.Start, a.Len(), uint64(a.now), uint64(flags), fd, off)
	if a.name != "" {
		// Not every kernel can name memory (CONFIG_ANON_VMA_NAME): it does not
		// matter to the program.
		b.Try("prctl(PR_SET_VMA_ANON_NAME)", unix.SYS_PRCTL, linux.PR_SET_VMA, linux.PR_SET_VMA_ANON_NAME, a.Start, a.Len(), uint64(b.String(a.name)))
	}
	a.advise(b, false)
}

// adapt makes an inherited area what the task wants it to be.
func (s *Space) adapt(b *remote.Batch, a *area) {
	a.now, a.advised = a.from.now, a.from.advised
	a.advise(b, false)
	s.eachDrop(a, a.from, func(start, end uint64) {
		b.Call("madvise(MADV_DONTNEED)", unix.SYS_MADVISE, start, end-start, unix.MADV_DONTNEED)
	})
	if a.now&unix.PROT_WRITE == 0 && s.hasOwn(a) {
		a.now |= unix.PROT_WRITE | a.prot
		b.Call("mprotect", unix.SYS_MPROTECT, a.Start, a.Len(), uint64(a.now))
	}
}

// hasOwn tells whether contents of an inherited area must, or may have to, be
// written.
func (s *Space) hasOwn(a *area) bool {
	for _, p := range s.pieces[a.first:a.last] {
		if !p.up() || s.extra&mmExtraCow == 0 {
			return true
		}
	}
	return false
}

// advise queues the advice that is still to be given: all that can be given
// before there are contents and children, or the rest. What is taken back comes
// first: MADV_NORMAL takes back all that was said of the order of reading.
func (a *area) advise(b *remote.Batch, late bool) {
	for _, back := range [...]bool{true, false} {
		for _, x := range &advices {
			bit := uint64(1) << x.n
			advice := x.n
			switch {
			case x.late != late || (a.madvise^a.advised)&bit == 0 || (a.advised&bit != 0) != back:
				continue
			case back:
				if a.advised &^= bit; x.undo < 0 {
					continue // its opposite follows, see forkable
				}
				advice = uint(x.undo)
			default:
				a.advised |= bit
			}
			call := b.Call
			if x.n == unix.MADV_HUGEPAGE || x.n == unix.MADV_NOHUGEPAGE || x.n == unix.MADV_MERGEABLE {
				call = b.Try // hints, and a kernel may lack what they are about
			}
			call(fmt.Sprintf("madvise(%d)", advice), unix.SYS_MADVISE, a.Start, a.Len(), uint64(advice))
		}
	}
}
