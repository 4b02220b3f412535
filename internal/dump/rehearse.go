package dump

import (
	"fmt"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/restore"
)

// memory is images as they are about to be written: a source for a plan.
type memory struct{ sink *sink }

// Entries implements plan.Source.
func (m memory) Entries(row *image.Row, ids ...uint32) ([]plan.Entry, error) {
	q := m.sink.queues[row.FileName(ids...)]
	if q == nil {
		return nil, nil
	}
	out := make([]plan.Entry, len(q.entries))
	for i, e := range q.entries {
		out[i] = plan.Entry{Message: e.m, Payload: e.payload}
	}
	return out, nil
}

// whole tells whether all entries are still in memory.
func (s *sink) whole() bool {
	for _, q := range s.order {
		if q.w != nil || q.done {
			return false
		}
	}
	return true
}

// rehearse plans the restore of the tree's open files from what is about to be
// written, and fails where that fails: a checkpoint that can't be restored is worth
// nothing, and its tree would be gone.
func (d *dump) rehearse() error {
	q := d.sink.queues[image.Files.FileName()]
	if q == nil {
		return nil
	}
	files := make([]*fdinfo.FileEntry, len(q.entries))
	for i, e := range q.entries {
		files[i] = e.m.(*fdinfo.FileEntry)
	}
	return d.rehearseWith(memory{d.sink}, files)
}

// rehearseWritten is rehearse for images that did not fit into memory.
func (d *dump) rehearseWritten() error {
	files, err := image.ReadOptional[*fdinfo.FileEntry](d.store, image.Files)
	if err != nil {
		return err
	}
	return d.rehearseWith(restore.Images(d.store), files)
}

func (d *dump) rehearseWith(src plan.Source, files []*fdinfo.FileEntry) error {
	if len(d.opts.External) > 0 {
		return nil // what is handed in then isn't known
	}
	if err := restore.Rehearse(src, files, d.opts.Both); err != nil {
		return fmt.Errorf("a restore could not make the tree again from these images, which is a mistake of Glis's, please report it: %w", err)
	}
	return nil
}
