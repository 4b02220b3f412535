package mem

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/internal/hugepages"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/pages"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/scan"
)

// find finds the pages that the task has of its own, and guard regions.
func (s *Space) find() error {
	err := s.scan(func(p stretch, guard bool) {
		switch {
		case guard:
			s.guard = append(s.guard, p.Span)
		case len(s.found) < mostFound:
			s.found = append(s.found, p)
		default:
			s.scattered = true
		}
	})
	if s.scattered {
		s.found = nil
	}
	return err
}

// mostFound is how many stretches of a task's memory are kept: a few MiB.
// Memory that is more scattered is looked through again.
const mostFound = 1 << 17

// stretch is pages that are to be stored, all in one area.
type stretch struct {
	pages.Span
	area   int
	shared bool // the parent task has the same pages
}

// each calls f for everything that is to be stored, ascending.
func (s *Space) each(f func(p stretch) error) error {
	if !s.scattered {
		for _, p := range s.found {
			if err := f(p); err != nil {
				return err
			}
		}
		return nil
	}
	var failed error
	err := s.scan(func(p stretch, guard bool) {
		if failed == nil && !guard {
			failed = f(p)
		}
	})
	return errors.Join(err, failed)
}

// scan looks through the task's memory: at pages of its own, and at areas that
// are stored as they are.
func (s *Space) scan(f func(p stretch, guard bool)) error {
	sc, err := pages.OpenScanner(s.task.Dir)
	if err != nil {
		return err
	}
	defer sc.Close() //nolint:errcheck // only read from
	areas, index := s.searched()
	next := 0 // of the areas, for those that are stored whole
	whole := func(before int) {
		for ; next < before; next++ {
			if s.areas[next].whole() {
				f(stretch{Span: s.areas[next].Span, area: next}, false)
			}
		}
	}
	err = sc.Scan(areas, func(i int, p pages.Span, guard bool) {
		whole(index[i])
		if a := &s.areas[index[i]]; guard || a.private() && a.flags&linux.MAP_DROPPABLE == 0 {
			f(stretch{Span: p, area: index[i]}, guard)
		}
	})
	if err != nil {
		return err
	}
	whole(len(s.areas))
	return nil
}

// searched returns the areas in which pages are looked for, or guard regions: shared
// memory has no pages of the task's own, of what may be dropped none is stored, and both are
// left out if they are large, unless the kernel says that there may be guard regions, as to walk over 1 GiB takes 3 ms of frozen time, in
// each process again.
func (s *Space) searched() (areas []pages.Area, index []int) {
	apart := false
	for i := range s.areas {
		a := &s.areas[i]
		isShared := a.status&(statusFileShared|statusAnonShared|statusSysVIPC) != 0
		unstored := isShared || a.flags&linux.MAP_DROPPABLE != 0
		if unstored && a.Len() > mostGuarded && !a.guarded || !isShared && !a.private() || a.whole() {
			// Walking over the little that code and data of libraries have is
			// cheaper than a call of its own.
			apart = apart || isShared
			continue
		}
		areas = append(areas, pages.Area{Span: a.Span, Apart: apart})
		index = append(index, i)
		apart = false
	}
	return areas, index
}

// mostGuarded is the size in bytes up to which such memory is looked through, whatever
// the kernel says: before Linux 6.19, but for later ones of 6.18, it says nothing.
const mostGuarded = 64 << 20

// scanned counts the pages that were looked through.
func (s *Space) scanned() (n uint64) {
	for i := range s.areas {
		if s.areas[i].private() {
			n += s.areas[i].Len() / page
		}
	}
	return n
}

// Pages stores the contents of memory: of every space that tasks have of
// their own, and of shared memory. Parents come before children in spaces.
// It stops between chunks if ctx ends.
func Pages(ctx context.Context, env *kind.DumpEnv, spaces []*Space, store image.Store) (Stats, error) {
	d := drainer{ctx: ctx, env: env, store: store, nextID: 1, keep: mostSpans}
	err := d.run(spaces)
	if err != nil && d.family != nil {
		err = errors.Join(err, Discard(store))
	}
	return d.stats, err
}

func (d *drainer) run(spaces []*Space) error {
	if err := d.shareds(spaces); err != nil {
		return err
	}
	if err := d.cow(spaces); err != nil {
		return err
	}
	if d.family != nil {
		defer d.family.close() //nolint:errcheck // directories
	}
	for group := range slices.Chunk(spaces, together) {
		if err := errors.Join(d.group(group), d.close()); err != nil {
			return err
		}
	}
	return nil
}

// together is how many tasks' files are open at a time.
const together = 64

func (d *drainer) group(spaces []*Space) error {
	var sources []*pages.Source
	for _, s := range spaces {
		src, err := d.prepare(s)
		if err != nil {
			return err
		}
		sources = append(sources, src)
	}
	return pages.Drain(d.ctx, sources, d.env.Buffer, nil)
}

type drainer struct {
	ctx    context.Context
	env    *kind.DumpEnv
	store  image.Store
	nextID uint32 // of a pages file
	keep   int    // how many spans of a task are kept before they are stored
	open   []image.WriteFile
	family *family
	stats  Stats
}

func (d *drainer) close() error {
	var errs []error
	for _, f := range d.open {
		errs = append(errs, f.Close())
	}
	d.open = nil
	return errors.Join(errs...)
}

// pagesFile makes the next pages file.
func (d *drainer) pagesFile() (image.WriteFile, uint32, error) {
	id := d.nextID
	f, err := d.env.Pages, error(nil)
	if id > 1 || f == nil {
		f, err = d.store.Create(image.Pages.FileName(id))
	}
	if err != nil {
		return nil, 0, err
	}
	d.nextID++
	d.open = append(d.open, f)
	return f, id, nil
}

// prepare writes a task's pagemap and says what goes into its pages file. What
// would be too much to keep is stored at once.
func (d *drainer) prepare(s *Space) (*pages.Source, error) {
	s.unfold()
	defer s.forget()
	f, id, err := d.pagesFile()
	if err != nil {
		return nil, err
	}
	w, err := image.NewPagemapWriter(d.store, image.Pagemap, uint64(s.PID), id)
	if err != nil {
		return nil, err
	}
	t := taker{d: d, s: s, w: w, src: &pages.Source{PID: proc.PID(s.task.Via()), To: f}}
	err = t.run()
	d.stats.Scanned += s.scanned()
	if err := errors.Join(err, w.Close()); err != nil {
		return nil, err
	}
	if d.family != nil {
		return t.src, d.family.inherit(s, id)
	}
	return t.src, nil
}

// taker takes down where a task's pages are.
type taker struct {
	d   *drainer
	s   *Space
	w   *image.PagemapWriter
	src *pages.Source
}

func (t *taker) run() error {
	if t.d.family == nil || t.d.family.parent[t.s] == nil {
		return t.s.each(t.add)
	}
	m, err := newMatcher(t.d.ctx, t.s, t.d.family.parent[t.s])
	if err != nil {
		return err
	}
	defer m.close()
	return t.s.each(func(p stretch) error {
		if t.s.areas[p.area].huge() {
			return t.add(p) // see compareContents
		}
		return m.split(p, t.add)
	})
}

// mostSpans is how many spans of a task are kept: a few MiB.
const mostSpans = 1 << 17

func (t *taker) add(p stretch) error {
	if err := context.Cause(t.d.ctx); err != nil {
		return err
	}
	n := p.Len() / page
	if p.shared {
		t.d.stats.SkippedParent += n
		return t.w.Add(p.Start, n, image.PageParent)
	}
	t.d.stats.Written += n
	err := t.s.lazily(p, func(part pages.Span, lazy bool) error {
		flags := image.PagePresent
		if lazy {
			flags |= image.PageLazy
		}
		return t.w.Add(part.Start, part.Len()/page, flags)
	})
	if t.src.Spans = append(t.src.Spans, p.Span); err != nil || len(t.src.Spans) < t.d.keep {
		return err
	}
	if err := pages.Drain(t.d.ctx, []*pages.Source{t.src}, t.d.env.Buffer, nil); err != nil {
		return err
	}
	t.src.At, t.src.Spans = t.w.Offset(), t.src.Spans[:0]
	return nil
}

// lazily splits a stretch into what criu may restore late, on demand, and what
// not: the pages that stack pointers are in.
func (s *Space) lazily(p stretch, f func(part pages.Span, lazy bool) error) error {
	a := &s.areas[p.area]
	if !a.is(statusAnonPrivate) || a.huge() || a.status&statusVdso != 0 || a.flags&(unix.MAP_LOCKED|linux.MAP_DROPPABLE) != 0 {
		return f(p.Span, false)
	}
	rest := p.Span
	i, _ := slices.BinarySearch(s.stacks, rest.Start)
	for ; i < len(s.stacks) && s.stacks[i] < rest.End; i++ {
		sp := s.stacks[i]
		if sp > rest.Start {
			if err := f(pages.Span{Start: rest.Start, End: sp}, true); err != nil {
				return err
			}
		}
		if err := f(pages.Span{Start: sp, End: sp + page}, false); err != nil {
			return err
		}
		rest.Start = sp + page
	}
	if rest.Start == rest.End {
		return nil
	}
	return f(rest, true)
}

// shareds stores the contents of shared memory and memfds, each once, whoever
// maps or opens it.
func (d *drainer) shareds(spaces []*Space) error {
	type inode struct{ dev, ino uint64 }
	done := map[uint32]inode{}
	attached, err := segments(spaces)
	if err != nil {
		return err
	}
	for _, g := range attached {
		done[g.id] = inode{}
		if err := d.shared(g.shared()); err != nil {
			return errors.Join(fmt.Errorf("%v, %v: %w", g.task, g, err), d.close())
		}
	}
	for _, f := range d.env.Tree.Files {
		shmem, err := isShmem(f)
		if err != nil {
			return errors.Join(fmt.Errorf("%v: %w", f, err), d.close())
		}
		if !shmem {
			continue
		}
		n, own := SharedID(f), inode{f.Stat.Dev, f.Stat.Ino}
		if known, ok := done[n]; ok {
			if known != own {
				return kind.Unsupported(f, "it has the same number, %d, as other shared memory (memfd, System V), and images tell both apart by that; try again with a newly made one", n)
			}
			continue
		}
		done[n] = own
		if err := d.shared(f); err != nil {
			return errors.Join(fmt.Errorf("%v: %w", f, err), d.close())
		}
	}
	return d.close()
}

// SharedID is the number in pagemap-shmem-ID.img, and in memfd.img, of a memfd
// or shared memory.
func SharedID(f *scan.File) uint32 {
	if dev, err := shmemDevice(); err == nil && dev == f.Stat.Dev {
		return uint32(f.Stat.Ino)
	}
	return hugepages.SharedID(f.Stat.Dev, f.Stat.Ino)
}

func (d *drainer) shared(f *scan.File) error {
	if f.Stat.Size == 0 {
		return nil
	}
	n, err := f.Task.Dir.Open(f.Path(), unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer unix.Close(n) //nolint:errcheck // only read from
	to, id, err := d.pagesFile()
	if err != nil {
		return err
	}
	spans, err := dataSpans(n, f)
	if err != nil {
		return err
	}
	w, err := image.NewPagemapWriter(d.store, image.PagemapShmem, uint64(SharedID(f)), id)
	if err != nil {
		return err
	}
	for _, s := range spans {
		d.stats.SharedWritten += s.Len() / page
		if err := w.Add(s.Start, s.Len()/page, image.PagePresent); err != nil {
			break // Close returns it
		}
	}
	d.stats.SharedScanned += (uint64(f.Stat.Size) + page - 1) / page
	if err := w.Close(); err != nil {
		return err
	}
	return pages.DrainFile(d.ctx, &pages.File{From: pages.FD(n), Size: uint64(f.Stat.Size), Spans: spans, To: to})
}
