package inspect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"glis.dev/glis/image"
	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
)

// What a checkpoint may hold at most; real ones are far below.
const (
	mostEntries = 1 << 23 // entries of all files together
	mostName    = 4096    // bytes of a name: PATH_MAX
	mostPID     = 1 << 22 // PID_MAX_LIMIT
)

// fileKey names a file: an id is unique among files of one type.
type fileKey struct {
	kind int32
	id   uint32
}

// reader collects a report.
type reader struct {
	ctx     context.Context
	plain   image.Store
	store   image.Store    // plain, or what checks it
	checked *image.Checked // is store if there are checksums
	rep     *Report
	entries int             // so far
	used    map[string]bool // image files that were opened

	mtype  int32 // core_entry.march
	tasks  map[uint32]*Task
	tids   map[uint32]bool
	tables map[uint32]*Task // the first task with a table of descriptors
	spaces map[uint32]*Task // the first task with an address space
	files  map[fileKey]*File
	pipes  map[uint32]*Pipe
	shared map[uint64]*Shared
	inodes map[uint32]*File // unix sockets
}

// Read reads the checkpoint in s. A broken image is an error that names it,
// mostly an [*image.Error].
func Read(ctx context.Context, s image.Store) (*Report, error) {
	r := &reader{
		ctx: ctx, plain: s, store: s, used: map[string]bool{},
		rep:   &Report{Directory: s.String(), Tasks: []*Task{}, Files: []*File{}},
		tasks: map[uint32]*Task{}, tids: map[uint32]bool{}, tables: map[uint32]*Task{}, spaces: map[uint32]*Task{},
		files: map[fileKey]*File{}, pipes: map[uint32]*Pipe{}, shared: map[uint64]*Shared{}, inodes: map[uint32]*File{},
	}
	for _, step := range []func() error{
		r.check, r.header, r.readTree, r.readTasks, r.readFiles, r.readSockets, r.readMemfds, r.readParts, r.link, r.readShared, r.readLocks, r.inventory, r.checkRest,
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return r.rep, nil
}

// check has all that is read compared with the checksums of the dump.
func (r *reader) check() error {
	var err error
	r.checked, err = image.Check(r.plain)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // no checkpoint at all, which header says
	}
	if r.checked != nil {
		r.store, r.rep.Checksums = r.checked, "intact"
	}
	return err
}

// checkRest is for what was not read.
func (r *reader) checkRest() error {
	r.used[image.ManifestName] = r.checked != nil
	return r.checked.Metadata(r.ctx)
}

// each calls f for every entry of an image. Without the image it returns an
// error that errors.Is fs.ErrNotExist. An error of f gets the place.
func each[T proto.Message](r *reader, row *image.Row, ids []uint32, f func(T) error) error {
	r.used[row.FileName(ids...)] = true
	rd, err := image.Open(r.store, row, ids...)
	if err != nil {
		return err
	}
	defer rd.Close() //nolint:errcheck // only read from
	for {
		at := rd.Offset()
		m, err := rd.NextAny()
		if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := r.spend(1); err != nil {
			return &image.Error{File: rd.Name(), Offset: at, Err: err}
		}
		t, ok := m.(T)
		if !ok {
			continue // the head of a file whose entries are asked for
		}
		if err := f(t); err != nil {
			return &image.Error{File: rd.Name(), Offset: at, Err: err}
		}
	}
}

// optional is each for an image that is not there if there is nothing of its
// sort.
func optional[T proto.Message](r *reader, row *image.Row, ids []uint32, f func(T) error) error {
	err := each(r, row, ids, f)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// one reads an image with a single entry.
func one[T proto.Message](r *reader, row *image.Row, ids ...uint32) (T, error) {
	var got T
	err := each(r, row, ids, func(m T) error { got = m; return nil })
	return got, err
}

// spend counts entries and ends the work when there are too many or nobody
// waits for it.
func (r *reader) spend(n int) error {
	if r.entries += n; r.entries > mostEntries {
		return fmt.Errorf("more than %d entries in all images, this is no checkpoint", mostEntries)
	}
	return r.ctx.Err()
}

// checkName refuses a name that no kernel gave out.
func checkName(name string) error {
	if len(name) > mostName {
		return fmt.Errorf("a name of %d bytes, at most %d are possible", len(name), mostName)
	}
	return nil
}

// add adds without wrapping around: sums of numbers from images may be absurd.
func add(sum *uint64, n uint64) {
	if *sum += n; *sum < n {
		*sum = ^uint64(0)
	}
}

// inventory counts the files in the store and notes those that nothing was
// taken from.
func (r *reader) inventory() error {
	names, err := r.store.List()
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := r.spend(1); err != nil {
			return err
		}
		f, err := r.store.Open(name)
		if err != nil {
			return err
		}
		add(&r.rep.Bytes, uint64(max(f.Size(), 0)))
		if err := f.Close(); err != nil {
			return err
		}
		r.rep.FileCount++
		r.sort(name)
	}
	return nil
}

// sort lists a file that nothing was taken from. Pages need no mention.
func (r *reader) sort(name string) {
	row, _, known := image.RowFor(name)
	for _, x := range extra.Table() {
		if x.Pattern == name {
			row, known = x, true
		}
	}
	switch {
	case r.used[name] || row == image.Pages || row == image.PagemapShmem:
	case known:
		r.rep.OtherImages = append(r.rep.OtherImages, name)
	default:
		r.rep.OtherFiles = append(r.rep.OtherFiles, name)
	}
}
