package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
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

	mu     sync.Mutex
	files  ledger      // those that were closed
	unread []*recorded // those of them whose checksums are taken later
	// gone is how many there were of both when a file was removed that may be among them.
	// They are looked through once, in list: all of a dump that fails are removed.
	gone map[string][2]int
}

// recorded is a file that is being made.
type recorded struct {
	sums
	listed
}

// NewRecorder records what is made in s. With later the checksums of pages are
// taken when Seal is called, from the files, instead of on the way: that takes
// longer, but the tree may run meanwhile.
func NewRecorder(s Store, later bool) *Recorder {
	checksum(0, nil) // makes tables when it is first called: before a tree is frozen
	return &Recorder{Store: s, later: later}
}

// Create makes a file whose content is recorded.
func (r *Recorder) Create(name string) (WriteFile, error) {
	f, err := r.Store.Create(name)
	if err != nil {
		return nil, err
	}
	return &recordedFile{WriteFile: f, by: r, rec: recorded{listed: listed{name: name}}}, nil
}

// Remove removes a file; the manifest will not have it.
func (r *Recorder) Remove(name string) error {
	r.mu.Lock()
	if r.gone == nil {
		r.gone = map[string][2]int{}
	}
	r.gone[name] = [2]int{len(r.files.at), len(r.unread)}
	r.mu.Unlock()
	return r.Store.Remove(name)
}

// recordedFile is a file being written.
type recordedFile struct {
	WriteFile
	by  *Recorder
	rec recorded
	pos int64 // of Write
}

func (f *recordedFile) Write(p []byte) (int, error) {
	n, err := f.WriteFile.Write(p)
	f.rec.wrote(p[:n], f.pos)
	f.pos += int64(n)
	return n, err
}

func (f *recordedFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.WriteFile.WriteAt(p, off)
	if f.by.later {
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
	f.by.closed(&f.rec)
	return nil
}

// closed puts down what is known of a file.
func (r *Recorder) closed(f *recorded) {
	var known bool
	f.listed.size = f.sums.size
	f.listed.sums, known = f.all()
	r.mu.Lock()
	defer r.mu.Unlock()
	if known {
		r.files.add(f.listed)
		return
	}
	r.unread = append(r.unread, &recorded{listed: f.listed})
}

// Seal makes the checkpoint whole: it writes the manifest and, last of all,
// the inventory, which vouches for it. All files must have been closed. The
// tree need not stand still.
func (r *Recorder) Seal(ctx context.Context, e *inventory.InventoryEntry) error {
	files, err := r.list(ctx)
	if err != nil {
		return err
	}
	m, err := r.writeManifest(files)
	if err != nil {
		return err
	}
	b, err := encodeInventory(e, m)
	if err != nil {
		return err
	}
	return r.write(Inventory.FileName(), b)
}

// writeManifest writes the manifest and returns what the inventory is to say of it.
func (r *Recorder) writeManifest(files *ledger) (m mark, err error) {
	f, err := r.Store.Create(ManifestName)
	if err != nil {
		return m, err
	}
	err = writeManifest(files, func(b []byte) error {
		m = mark{m.size + uint64(len(b)), checksum(m.sum, b)}
		_, err := f.Write(b)
		return err
	})
	return m, errors.Join(err, f.Close())
}

// forget drops files that were removed.
func (r *Recorder) forget() {
	if len(r.gone) == 0 {
		return
	}
	r.files.drop(func(name []byte, i int) bool { return i < r.gone[string(name)][0] })
	kept := r.unread[:0]
	for i, f := range r.unread {
		if i >= r.gone[f.name][1] {
			kept = append(kept, f)
		}
	}
	r.unread, r.gone = kept, nil
}

// list returns what the manifest is to say, sorted.
func (r *Recorder) list(ctx context.Context) (*ledger, error) {
	r.forget()
	// Of a name that was made more than once only the last file is there.
	slices.SortStableFunc(r.unread, func(a, b *recorded) int { return cmp.Compare(a.name, b.name) })
	for read := ""; len(r.unread) > 0; r.unread = r.unread[:len(r.unread)-1] {
		f := r.unread[len(r.unread)-1]
		if f.name == read {
			continue
		}
		if err := f.read(ctx, r.Store); err != nil {
			return nil, err
		}
		r.files.add(f.listed)
		read = f.name
	}
	r.files.sort()
	if d, ok := DirOf(r.Store); ok {
		if err := d.listLinks(&r.files); err != nil {
			return nil, err
		}
		r.files.sort()
	}
	return &r.files, nil
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
	sync := r.syncs(ctx)
	go func() { done <- sync() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("sync: %w", context.Cause(ctx))
	}
}

// syncs returns what syncs all. It knows what that is, since it may still run when
// nobody waits for it any more and files are removed again.
func (r *Recorder) syncs(ctx context.Context) func() error {
	files := len(r.files.at) + 2
	d, ok := DirOf(r.Store)
	if ok && files > syncWhole && d.syncsWhole(r.bytes()) {
		return func() error { return errors.Join(d.syncFS(), d.syncLinks()) }
	}
	names := append(make([]string, 0, files), ManifestName, Inventory.FileName())
	for i := range r.files.at {
		if f := r.files.entry(i); f.link == "" {
			names = append(names, f.name)
		}
	}
	return func() error {
		var g errgroup.Group
		g.SetLimit(syncing)
		for _, name := range names {
			g.Go(func() error {
				if err := context.Cause(ctx); err != nil {
					return err
				}
				return r.syncFile(name)
			})
		}
		g.Go(r.Store.Sync)
		if ok {
			g.Go(d.syncLinks)
		}
		return g.Wait()
	}
}

// bytes is how much was written.
func (r *Recorder) bytes() (sum int64) {
	for i := range r.files.at {
		if f := r.files.entry(i); f.link == "" {
			sum += f.size
		}
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
