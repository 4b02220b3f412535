package mem

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/pages"
	"glis.dev/glis/internal/scan"
)

// find finds the pages that the task has of its own, and guard regions.
func (s *Space) find() error {
	sc, err := pages.OpenScanner(s.task.Dir)
	if err != nil {
		return err
	}
	defer sc.Close() //nolint:errcheck // only read from
	areas, index := s.searched()
	err = sc.Scan(areas, func(i int, p pages.Span, guard bool) {
		if guard {
			s.guard = append(s.guard, p)
			return
		}
		s.found = append(s.found, stretch{Span: p, area: index[i]})
	})
	if err != nil {
		return err
	}
	s.addWhole()
	return nil
}

// stretch is pages that are to be stored, all in one area.
type stretch struct {
	pages.Span
	area   int
	shared bool // the parent task has the same pages
}

// searched returns the areas in which pages are looked for.
func (s *Space) searched() (areas []pages.Area, index []int) {
	apart := false
	for i := range s.areas {
		a := &s.areas[i]
		if !a.private() || a.whole() || a.flags&linux.MAP_DROPPABLE != 0 {
			// Walking over the little that code and data of libraries have is
			// cheaper than a call of its own.
			apart = apart || a.status&statusFileShared != 0 && a.Len() > 4<<20
			continue
		}
		areas = append(areas, pages.Area{Span: a.Span, Apart: apart})
		index = append(index, i)
		apart = false
	}
	return areas, index
}

// addWhole adds the areas that are stored as they are.
func (s *Space) addWhole() {
	for i := range s.areas {
		a := &s.areas[i]
		if !a.whole() {
			continue
		}
		at, _ := slices.BinarySearchFunc(s.found, a.Start, func(f stretch, addr uint64) int {
			if f.Start < addr {
				return -1
			}
			return 1
		})
		s.found = slices.Insert(s.found, at, stretch{Span: a.Span, area: i})
	}
}

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
	d := drainer{ctx: ctx, env: env, store: store, nextID: 1}
	err := d.run(spaces)
	if err != nil && d.family != nil {
		err = errors.Join(err, Discard(store))
	}
	return d.stats, err
}

func (d *drainer) run(spaces []*Space) error {
	if err := d.shareds(); err != nil {
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
	return pages.Drain(d.ctx, sources, nil)
}

type drainer struct {
	ctx    context.Context
	env    *kind.DumpEnv
	store  image.Store
	nextID uint32 // of a pages file
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
	f, err := d.store.Create(image.Pages.FileName(id))
	if err != nil {
		return nil, 0, err
	}
	d.nextID++
	d.open = append(d.open, f)
	return f, id, nil
}

// prepare writes a task's pagemap and says what goes into its pages file.
func (d *drainer) prepare(s *Space) (*pages.Source, error) {
	f, id, err := d.pagesFile()
	if err != nil {
		return nil, err
	}
	w, err := image.NewPagemapWriter(d.store, image.Pagemap, uint64(s.PID), id)
	if err != nil {
		return nil, err
	}
	src := &pages.Source{PID: s.task.PID, To: f}
	for _, p := range s.found {
		if err := d.addStretch(s, src, w, p); err != nil {
			break // Close returns it
		}
	}
	d.stats.Scanned += s.scanned()
	if err := w.Close(); err != nil {
		return nil, err
	}
	if d.family != nil {
		return src, d.family.inherit(s, id)
	}
	return src, nil
}

func (d *drainer) addStretch(s *Space, src *pages.Source, w *image.PagemapWriter, p stretch) error {
	n := p.Len() / page
	if p.shared {
		d.stats.SkippedParent += n
		return w.Add(p.Start, n, image.PageParent)
	}
	d.stats.Written += n
	src.Spans = append(src.Spans, p.Span)
	return s.lazily(p, func(part pages.Span, lazy bool) error {
		flags := image.PagePresent
		if lazy {
			flags |= image.PageLazy
		}
		return w.Add(part.Start, part.Len()/page, flags)
	})
}

// lazily splits a stretch into what criu may restore late, on demand, and what
// not: the pages that stack pointers are in.
func (s *Space) lazily(p stretch, f func(part pages.Span, lazy bool) error) error {
	a := &s.areas[p.area]
	if !a.is(statusAnonPrivate) || a.status&statusVdso != 0 || a.flags&(unix.MAP_LOCKED|linux.MAP_DROPPABLE) != 0 {
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
func (d *drainer) shareds() error {
	done := map[uint64]bool{}
	for _, f := range d.env.Tree.Files {
		if !isShmem(f) || done[f.Stat.Ino] || strings.HasPrefix(f.Link, "/SYSV") {
			continue
		}
		done[f.Stat.Ino] = true
		if err := d.shared(f); err != nil {
			return errors.Join(fmt.Errorf("%v: %w", f, err), d.close())
		}
	}
	return d.close()
}

// SharedID is the number in pagemap-shmem-ID.img, and in memfd.img, of a memfd
// or shared memory.
func SharedID(f *scan.File) uint32 { return uint32(f.Stat.Ino) }

func (d *drainer) shared(f *scan.File) error {
	if f.Stat.Size == 0 {
		return nil
	}
	n, err := f.Task.Dir.Open(f.Path, unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer unix.Close(n) //nolint:errcheck // only read from
	to, id, err := d.pagesFile()
	if err != nil {
		return err
	}
	spans, err := pages.DataSpans(n, uint64(f.Stat.Size))
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
