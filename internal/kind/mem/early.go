package mem

import (
	"sync/atomic"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
)

// early is the first pages file, made before the freeze.
type early struct {
	image.WriteFile
	end atomic.Int64 // of what was written
}

// mostEarly is how much is allocated beforehand, in bytes: the kernel clears
// it, which takes longer than it spares if a dump writes less.
const mostEarly = 64 << 20

// Early makes the first pages file, for DumpEnv.Pages. Where the images are in
// memory (tmpfs) it gets about as many bytes as will be stored: for the kernel
// to find memory takes longer than to copy into it, and that need not happen in
// frozen time.
func Early(store image.Store, about uint64) (image.WriteFile, error) {
	f, err := store.Create(image.Pages.FileName(1))
	if err != nil {
		return nil, err
	}
	if file := f.File(); file != nil && inMemory(int(file.Fd())) {
		// Whether there is room, the writes will tell.
		_ = unix.Fallocate(int(file.Fd()), 0, 0, int64(min(about, mostEarly))) //nolint:gosec // small
	}
	return &early{WriteFile: f}, nil
}

func inMemory(fd int) bool {
	var st unix.Statfs_t
	return unix.Fstatfs(fd, &st) == nil && st.Type == unix.TMPFS_MAGIC
}

// WriteAt implements image.WriteFile.
func (f *early) WriteAt(b []byte, off int64) (int, error) {
	n, err := f.WriteFile.WriteAt(b, off)
	for end := off + int64(n); ; {
		old := f.end.Load()
		if old >= end || f.end.CompareAndSwap(old, end) {
			return n, err
		}
	}
}

// Close gives back what was not needed.
func (f *early) Close() error {
	if file := f.File(); file != nil {
		if err := file.Truncate(f.end.Load()); err != nil {
			return err
		}
	}
	return f.WriteFile.Close()
}
