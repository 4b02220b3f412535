package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"glis.dev/glis/image/criu/inventory"
	"golang.org/x/sync/errgroup"
)

// Recorder is a store in which a checkpoint is made. It takes the checksum of
// all that is written, writes the manifest, and makes it all last through a
// power cut. It may be used from several goroutines.
//
// What is written to the directory in other ways has no part in that: logs,
// and statistics of a restore.
type Recorder struct {
	Store
	later bool

	mu    sync.Mutex
	files map[string]*recorded
}

// recorded is a file that was made.
type recorded struct {
	sums
	listed
	known bool // listed has its size and sums
}

// NewRecorder records what is made in s. With later the checksums of pages are
// taken when Seal is called, from the files, instead of on the way: that takes
// longer, but the tree may run meanwhile.
func NewRecorder(s Store, later bool) *Recorder {
	checksum(0, nil) // makes tables when it is first called: before a tree is frozen
	return &Recorder{Store: s, later: later, files: map[string]*recorded{}}
}

// Create makes a file whose content is recorded.
func (r *Recorder) Create(name string) (WriteFile, error) {
	f, err := r.Store.Create(name)
	if err != nil {
		return nil, err
	}
	rec := &recorded{listed: listed{name: name}}
	r.mu.Lock()
	r.files[name] = rec
	r.mu.Unlock()
	return &recordedFile{WriteFile: f, rec: rec, later: r.later}, nil
}

// Remove removes a file; the manifest will not have it.
func (r *Recorder) Remove(name string) error {
	r.mu.Lock()
	delete(r.files, name)
	r.mu.Unlock()
	return r.Store.Remove(name)
}

// recordedFile is a file being written.
type recordedFile struct {
	WriteFile
	rec   *recorded
	pos   int64 // of Write
	later bool
}

func (f *recordedFile) Write(p []byte) (int, error) {
	n, err := f.WriteFile.Write(p)
	f.rec.wrote(p[:n], f.pos)
	f.pos += int64(n)
	return n, err
}

func (f *recordedFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.WriteFile.WriteAt(p, off)
	if f.later {
		f.rec.reach(off + int64(n)) // and has no sums
		return n, err
	}
	f.rec.wrote(p[:n], off)
	return n, err
}

func (f *recordedFile) Close() error {
	if err := f.WriteFile.Close(); err != nil {
		return err
	}
	f.rec.listed.size = f.rec.sums.size
	f.rec.listed.sums, f.rec.known = f.rec.all()
	f.rec.chunks = nil
	return nil
}

// Seal makes the checkpoint whole: it writes the manifest and, last of all,
// the inventory, which vouches for it. All files must have been closed. The
// tree need not stand still.
func (r *Recorder) Seal(ctx context.Context, e *inventory.InventoryEntry) error {
	files, err := r.list(ctx)
	if err != nil {
		return err
	}
	b := appendManifest(nil, files)
	if err := r.write(ManifestName, b); err != nil {
		return err
	}
	b, err = encodeInventory(e, mark{uint64(len(b)), checksum(0, b)})
	if err != nil {
		return err
	}
	return r.write(Inventory.FileName(), b)
}

// list returns what the manifest is to say.
func (r *Recorder) list(ctx context.Context) (map[string]listed, error) {
	files := make(map[string]listed, len(r.files))
	for name, rec := range r.files {
		if !rec.known {
			if err := rec.read(ctx, r.Store); err != nil {
				return nil, err
			}
		}
		files[name] = rec.listed
	}
	if d, ok := DirOf(r.Store); ok {
		return files, d.listLinks(files)
	}
	return files, nil
}

// read takes the checksums of a file from the file.
func (f *recorded) read(ctx context.Context, s Store) error {
	r, err := s.Open(f.name)
	if err != nil {
		return err
	}
	defer r.Close() //nolint:errcheck // only read from
	f.listed.sums = make([]uint32, chunksOf(f.listed.size))
	err = eachChunk(len(f.listed.sums), f.listed.size, func(i int, buf []byte) error {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		b := buf[:chunkLen(f.listed.size, int64(i))]
		if n, err := r.ReadAt(b, int64(i)*ChunkSize); n < len(b) {
			return &Error{File: f.name, Offset: int64(i)*ChunkSize + int64(n), Err: errors.Join(errors.New("it can't be read back"), err)}
		}
		f.listed.sums[i] = checksum(0, b)
		return nil
	})
	f.known = err == nil
	return err
}

// write makes a whole file at once.
func (r *Recorder) write(name string, b []byte) error {
	f, err := r.Store.Create(name)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Close())
}

// SyncAll makes the checkpoint last through a power cut: all its files, and their
// names. In which order they reach the disk does not matter: if some did not,
// checksums tell.
//
// Files are synced many at a time, since the file system does what waits in
// one go. A disk may take long, and what it has begun can't be stopped: if ctx
// ends nobody waits for it.
func (r *Recorder) SyncAll(ctx context.Context) error {
	done := make(chan error, 1)
	go func() { done <- r.syncAll(ctx) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("sync: %w", context.Cause(ctx))
	}
}

func (r *Recorder) syncAll(ctx context.Context) error {
	names := []string{ManifestName, Inventory.FileName()}
	for name := range r.files {
		names = append(names, name)
	}
	d, ok := DirOf(r.Store)
	if ok && len(names) > syncWhole && d.syncsWhole(r.bytes()) {
		return errors.Join(d.syncFS(), d.syncLinks())
	}
	var g errgroup.Group
	g.SetLimit(syncing)
	for _, name := range names {
		g.Go(func() error { return errors.Join(context.Cause(ctx), r.syncFile(name)) })
	}
	g.Go(r.Store.Sync)
	if ok {
		g.Go(d.syncLinks)
	}
	return g.Wait()
}

// bytes is how much was written.
func (r *Recorder) bytes() (sum int64) {
	for _, f := range r.files {
		sum += f.listed.size
	}
	return sum
}

// syncing is how many files are synced at the same time.
const syncing = 64

func (r *Recorder) syncFile(name string) error {
	f, err := r.Store.Open(name)
	if errors.Is(err, fs.ErrNotExist) && (name == ManifestName || name == Inventory.FileName()) {
		return nil // not sealed
	}
	if err != nil {
		return err
	}
	if file := f.File(); file != nil {
		err = file.Sync()
	}
	return errors.Join(err, f.Close())
}

// DirOf returns the directory that a store is, or that it records or checks.
func DirOf(s Store) (*Dir, bool) {
	switch s := s.(type) {
	case *Dir:
		return s, true
	case *Recorder:
		return DirOf(s.Store)
	case *Checked:
		return DirOf(s.Store)
	}
	return nil, false
}
