package dump

import (
	"errors"
	"os"
	"slices"
	"sync"

	"glis.dev/glis/image"
	"glis.dev/glis/internal/pages"
	"glis.dev/glis/internal/warm"
)

// later is a store that keeps in memory what is written until the tree runs
// again, as long as that is not much: to make files, and to have the kernel find
// memory for them, takes longer than to copy the pages of a small process.
type later struct {
	image.Store
	mu    sync.Mutex
	left  int // bytes that may still be kept
	files []*laterFile
}

// mostLater is how much is kept, in bytes.
const mostLater = 4 << 20

func newLater(s image.Store) *later { return &later{Store: s, left: mostLater} }

// Create implements image.Store.
func (l *later) Create(name string) (image.WriteFile, error) {
	return l.add(&laterFile{store: l, name: name}), nil
}

// make is Create with memory for the first so many bytes, which is found now.
func (l *later) make(name string, room int) image.WriteFile {
	f := &laterFile{store: l, name: name}
	// Not of the heap, of which the next part is to be found as well.
	if b, free, err := warm.Map(room); err == nil {
		f.room, f.free, f.data = b, free, b[:0]
	}
	return l.add(f)
}

func (l *later) add(f *laterFile) image.WriteFile {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.files = append(l.files, f)
	return f
}

// take tells whether so many more bytes may be kept.
func (l *later) take(n int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n > l.left {
		return false
	}
	l.left -= n
	return true
}

// finish writes what was kept.
func (l *later) finish() error {
	if l == nil {
		return nil
	}
	for _, f := range l.files {
		if f.real != nil {
			continue
		}
		if err := f.spill(); err != nil {
			return err
		}
		if err := f.real.Close(); err != nil {
			return err
		}
	}
	return nil
}

// drop gives back the memory of what is not to be written.
func (l *later) drop() error {
	if l == nil {
		return nil
	}
	var errs []error
	for _, f := range l.files {
		f.data = nil
		errs = append(errs, f.giveBack())
	}
	return errors.Join(errs...)
}

// laterFile is a file in memory, until there is too much of it.
type laterFile struct {
	store *later
	name  string
	mu    sync.Mutex
	data  []byte
	room  []byte // that data begins in
	free  func() error
	real  image.WriteFile
}

var _ pages.Lender = (*laterFile)(nil)

// Lend implements pages.Lender.
func (f *laterFile) Lend(off int64, n int) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.real != nil || off+int64(n) > int64(len(f.room)) || !f.grow(int(off)+n) {
		return nil
	}
	return f.data[off : int(off)+n]
}

// grow makes the file so long, unless that is too much.
func (f *laterFile) grow(size int) bool {
	more := size - len(f.data)
	if more <= 0 {
		return true
	}
	if !f.store.take(more) {
		return false
	}
	f.data = slices.Grow(f.data, more)[:size]
	return true
}

// Write implements io.Writer.
func (f *laterFile) Write(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.real == nil && f.grow(len(f.data)+len(b)) {
		return copy(f.data[len(f.data)-len(b):], b), nil
	}
	if err := f.spill(); err != nil {
		return 0, err
	}
	return f.real.Write(b)
}

// WriteAt implements io.WriterAt.
func (f *laterFile) WriteAt(b []byte, off int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.real == nil && f.grow(int(off)+len(b)) {
		return copy(f.data[off:], b), nil
	}
	if err := f.spill(); err != nil {
		return 0, err
	}
	return f.real.WriteAt(b, off)
}

// spill makes the real file, with what is there of it.
func (f *laterFile) spill() (err error) {
	if f.real != nil {
		return nil
	}
	if f.real, err = f.store.Store.Create(f.name); err != nil {
		return err
	}
	if len(f.data) > 0 {
		_, err = f.real.Write(f.data) // which more may follow
	}
	f.data = nil
	return errors.Join(err, f.giveBack())
}

func (f *laterFile) giveBack() error {
	free := f.free
	if f.room, f.free = nil, nil; free == nil {
		return nil
	}
	return free()
}

// Close implements image.WriteFile.
func (f *laterFile) Close() error {
	if f.real == nil {
		return nil
	}
	return f.real.Close()
}

// Sync implements image.WriteFile: it is the real file that has to last.
func (f *laterFile) Sync() error { return nil }

// File implements image.WriteFile.
func (f *laterFile) File() *os.File { return nil }
