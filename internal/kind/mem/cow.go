package mem

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/pages"
	"glis.dev/glis/internal/scan"
)

// Memory that tasks share since a fork is stored once. criu has no word for
// that, but it has one for pages that are in a parent checkpoint: so a child's
// pages that are, physically, its parent's are said to be there, and the
// checkpoint gets a parent made of links:
//
//	parent -> shared
//	shared/pagemap-CHILD.img = pagemap-PARENT.img
//	shared/pages-N.img       = pages-N.img
//
// If the parent shares pages with its own parent, shared has such a parent too. In place of
// the parent it may be a sibling, see elder.go.
// criu then finds equal contents and lets the child keep what it has from its
// parent; Glis knows it from the start.

// CowDir is the directory of those links. Its name comes behind those of images:
// in a tar file that is sorted by name links follow what they are links to, so that
// what knows no links, as checkpointctl, finds the images whole.
const CowDir = "shared"

// deepest is how long a chain of inheritance may be; what goes beyond is
// stored again.
const deepest = 64

// family links the images of tasks that share memory with their parents.
type family struct {
	dirs   []*os.File // dirs[0] is the checkpoint, dirs[i] i times CowDir below
	parent map[*Space]*Space
	id     map[*Space]uint32 // of its pages file
	shares map[*Space]int    // length of its chain, 0 if it shares nothing
	linked []map[uint32]bool // pages files that are in dirs[i]
}

// cow finds out which pages children share with their parents. Stores other
// than directories, and file systems without hard links, get all pages of all
// tasks.
func (d *drainer) cow(spaces []*Space) error {
	dir, ok := image.DirOf(d.store)
	if !ok {
		return nil
	}
	f := &family{parent: map[*Space]*Space{}, id: map[*Space]uint32{}, shares: map[*Space]int{}}
	byTask := map[*scan.Task]*Space{}
	any := false
	for _, s := range spaces {
		byTask[s.task] = s
		p := byTask[s.task.Parent]
		if s.elder != nil {
			p = s.elder
		}
		if p == nil || f.shares[p] >= deepest {
			continue
		}
		shares, err := s.sharesWith(d.ctx, p)
		if err != nil {
			return err
		}
		if shares {
			f.parent[s], f.shares[s], any = p, f.shares[p]+1, true
		}
	}
	if !any {
		return nil
	}
	if err := f.begin(dir); err != nil {
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EOPNOTSUPP) {
			d.env.Log.Warn("the image directory's file system has no hard links, memory shared by forked tasks is stored once per task", "dir", dir)
			return nil
		}
		return err
	}
	d.family = f
	return nil
}

// errShared ends the search for pages that two tasks share.
var errShared = errors.New("shared")

// sharesWith tells whether the task has a page that its parent has too.
func (s *Space) sharesWith(ctx context.Context, p *Space) (bool, error) {
	defer s.unfold()()
	m, err := newMatcher(ctx, s, p)
	if err != nil {
		return false, err
	}
	defer m.close()
	err = s.each(func(f stretch) error {
		if s.areas[f.area].huge() {
			return nil // see compareContents
		}
		return m.split(f, func(part stretch) error {
			if part.shared {
				return errShared
			}
			return nil
		})
	})
	if errors.Is(err, errShared) {
		return true, nil
	}
	return false, err
}

// matcher finds the pages of a task that another has too, its parent or a sibling: the same
// frame or the same place in swap, at the same address.
type matcher struct {
	ctx      context.Context
	own, its *pages.Scanner
	words    []uint64
}

func newMatcher(ctx context.Context, s, other *Space) (*matcher, error) {
	own, err := pages.OpenScanner(s.task.Dir)
	if err != nil {
		return nil, err
	}
	its, err := pages.OpenScanner(other.task.Dir)
	if err != nil {
		return nil, errors.Join(err, own.Close())
	}
	return &matcher{ctx: ctx, own: own, its: its}, nil
}

func (m *matcher) close() {
	_ = m.own.Close() // only read from
	_ = m.its.Close()
}

// Bits of a pagemap word that tell a page from another.
const (
	wordPage      = linux.PM_PRESENT | linux.PM_SWAP | linux.PM_PFN_MASK
	wordExclusive = 1 << 56 // PM_MMAP_EXCLUSIVE: nobody else has the page
	mostWords     = 4096
)

// split calls f for the parts of a stretch that are shared and those that are
// not.
func (m *matcher) split(s stretch, f func(stretch) error) error {
	cur := stretch{Span: pages.Span{Start: s.Start, End: s.Start}, area: s.area}
	for at := s.Start; at < s.End; {
		if err := m.read(pages.Span{Start: at, End: min(s.End, at+mostWords*page)}); err != nil {
			return err
		}
		for _, w := range m.words {
			if shared := w != 0; shared != cur.shared {
				if cur.End > cur.Start {
					if err := f(cur); err != nil {
						return err
					}
				}
				cur.Start, cur.shared = at, shared
			}
			at += page
			cur.End = at
		}
	}
	return f(cur)
}

// read leaves in words those of the task whose pages are the other's too, 0
// for the rest.
func (m *matcher) read(part pages.Span) error {
	if err := context.Cause(m.ctx); err != nil {
		return err
	}
	some, err := m.shareables(part)
	if err != nil || some == 0 {
		return err
	}
	_, err = m.compare(part)
	return err
}

// shareables leaves in words those of the task that may be another's, too, 0 for the others.
func (m *matcher) shareables(part pages.Span) (n int, err error) {
	m.words = m.words[:0]
	err = m.own.Words(part, func(_, w uint64) {
		if w = shareable(w); w != 0 {
			n++
		}
		m.words = append(m.words, w)
	})
	return n, err
}

// compare leaves of words those that are the other's, and counts them.
func (m *matcher) compare(part pages.Span) (n int, err error) {
	i := 0
	err = m.its.Words(part, func(_, w uint64) {
		switch {
		case shareable(w) != m.words[i]:
			m.words[i] = 0
		case m.words[i] != 0:
			n++
		}
		i++
	})
	return n, err
}

// shareable returns what tells a page from others, 0 if it can't be another
// task's too, or without the right to see frame numbers.
func shareable(w uint64) uint64 {
	if w&linux.PM_FILE != 0 || w&linux.PM_PFN_MASK == 0 || w&wordExclusive != 0 || w&(linux.PM_PRESENT|linux.PM_SWAP) == 0 {
		return 0
	}
	return w & wordPage
}

// begin makes the directory of links and finds out whether links work.
func (f *family) begin(dir *image.Dir) error {
	f.dirs, f.linked = []*os.File{dir.File()}, []map[uint32]bool{nil}
	if err := f.deepen(); err != nil {
		return err
	}
	at := int(f.dirs[1].Fd())
	const trial, again = "trial.tmp", "trial2.tmp"
	n, err := unix.Openat(at, trial, unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC|unix.O_WRONLY, 0o600)
	if err == nil {
		err = errors.Join(unix.Close(n), unix.Linkat(at, trial, at, again, 0))
	}
	_, _ = unix.Unlinkat(at, trial, 0), unix.Unlinkat(at, again, 0)
	if err != nil {
		return errors.Join(fmt.Errorf("%s/%s: make a hard link: %w", dir, CowDir, err), f.close(), removeCow(dir))
	}
	return nil
}

// deepen makes the next directory and the link to it by which criu finds it.
func (f *family) deepen() error {
	up := f.dirs[len(f.dirs)-1]
	at := int(up.Fd())
	if err := unix.Symlinkat(CowDir, at, image.ParentLink); err != nil {
		return fmt.Errorf("%s/%s: make link: %w", up.Name(), image.ParentLink, err)
	}
	if err := unix.Mkdirat(at, CowDir, 0o700); err != nil {
		return errors.Join(fmt.Errorf("%s/%s: make directory: %w", up.Name(), CowDir, err), unix.Unlinkat(at, image.ParentLink, 0))
	}
	n, err := unix.Openat(at, CowDir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("%s/%s: %w", up.Name(), CowDir, err)
	}
	f.dirs = append(f.dirs, os.NewFile(uintptr(n), filepath.Join(up.Name(), CowDir)))
	f.linked = append(f.linked, map[uint32]bool{})
	return nil
}

// inherit links what a task shares with its ancestors; its own images have
// the number id. The ancestors' images are there already.
func (f *family) inherit(s *Space, id uint32) error {
	f.id[s] = id
	anc := s
	for level := 1; f.shares[anc] > 0; level++ {
		anc = f.parent[anc]
		if level == len(f.dirs) {
			if err := f.deepen(); err != nil {
				return err
			}
		}
		if err := f.link(level, image.Pagemap.FileName(anc.PID), image.Pagemap.FileName(s.PID)); err != nil {
			return err
		}
		pagesID := f.id[anc]
		if f.linked[level][pagesID] {
			continue
		}
		f.linked[level][pagesID] = true
		name := image.Pages.FileName(pagesID)
		if err := f.link(level, name, name); err != nil {
			return err
		}
	}
	return nil
}

func (f *family) link(level int, from, to string) error {
	if err := unix.Linkat(int(f.dirs[0].Fd()), from, int(f.dirs[level].Fd()), to, 0); err != nil {
		return fmt.Errorf("%s/%s: link to %s: %w", f.dirs[level].Name(), to, from, err)
	}
	return nil
}

// close closes the directories of links; the checkpoint's is its store's.
func (f *family) close() error {
	var errs []error
	for _, d := range f.dirs[min(1, len(f.dirs)):] {
		errs = append(errs, d.Close())
	}
	f.dirs = nil
	return errors.Join(errs...)
}

// Discard removes what Pages makes in a store beside image files: the links
// to memory that tasks share. It is for a dump that failed.
func Discard(store image.Store) error {
	dir, ok := image.DirOf(store)
	if !ok {
		return nil
	}
	return removeCow(dir)
}

// removeCow removes the directory of links if the link to it is there: then
// it is one of ours.
func removeCow(dir *image.Dir) error {
	defer runtime.KeepAlive(dir) // else its descriptor may be closed, as garbage, and be another's
	at := fmt.Sprintf("/proc/self/fd/%d", dir.File().Fd())
	link := filepath.Join(at, image.ParentLink)
	if to, err := os.Readlink(link); err != nil || to != CowDir {
		return nil //nolint:nilerr // nothing of ours
	}
	err := os.RemoveAll(filepath.Join(at, CowDir))
	if e := os.Remove(link); e != nil && !errors.Is(e, fs.ErrNotExist) {
		err = errors.Join(err, e)
	}
	return err
}
