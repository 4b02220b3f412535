package dump

import (
	"context"
	"fmt"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/proto"
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
	out := make([]plan.Entry, 0, len(q.entries))
	for _, e := range q.entries {
		if e.run == nil {
			out = append(out, plan.Entry{Message: e.m, Payload: e.payload})
			continue
		}
		err := e.run.each(func(b []byte) error {
			m := row.New()
			out = append(out, plan.Entry{Message: m})
			return proto.Unmarshal(b, m)
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Raw implements plan.Raw.
func (m memory) Raw(row *image.Row, f func(entry []byte) error) error {
	q := m.sink.queues[row.FileName()]
	if q == nil {
		return nil
	}
	for _, e := range q.entries {
		if e.run != nil {
			if err := e.run.each(f); err != nil {
				return err
			}
			continue
		}
		b, err := proto.Marshal(e.m)
		if err == nil {
			err = f(b)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// whole tells whether all entries are still in memory.
func (s *sink) whole() bool {
	for _, q := range s.order {
		if q.w != nil || q.done {
			return false
		}
	}
	return !s.gone
}

// rehearse plans the restore of the tree's open files from what is about to be
// written, and fails where that fails: a checkpoint that can't be restored is worth
// nothing, and its tree would be gone.
func (d *dump) rehearse(ctx context.Context) error {
	q := d.sink.queues[image.Files.FileName()]
	if q == nil {
		return nil
	}
	return d.rehearseWith(ctx, memory{d.sink}, &entries{each: q.eachFile})
}

// entries are those of files.img: messages, or encoded.
type entries struct {
	each func(f func(m *fdinfo.FileEntry, encoded []byte) error) error
}

// eachFile calls f with each entry of files.img.
func (q *queue) eachFile(f func(m *fdinfo.FileEntry, encoded []byte) error) error {
	for _, e := range q.entries {
		var err error
		if e.run == nil {
			err = f(e.m.(*fdinfo.FileEntry), nil)
		} else {
			err = e.run.each(func(b []byte) error { return f(nil, b) })
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Outlines implements restore.Entries. Of sockets that were encoded only what all files have
// in common is read.
func (s *entries) Outlines(f func(*fdinfo.FileEntry) error) error {
	var room fdinfo.FileEntry
	return s.each(func(m *fdinfo.FileEntry, b []byte) error {
		if m != nil {
			return f(m)
		}
		var o outline
		if err := proto.Unmarshal(b, &o); err != nil {
			return err
		}
		if room = (fdinfo.FileEntry{Type: o.typ, Id: o.id}); room.GetType() != fdinfo.FdTypes_INETSK {
			room.Reset()
			if err := proto.Unmarshal(b, &room); err != nil {
				return err
			}
		}
		return f(&room)
	})
}

// Some implements restore.Entries.
func (s *entries) Some(want func(int) bool, f func(*fdinfo.FileEntry) error) error {
	at := -1
	return s.each(func(m *fdinfo.FileEntry, b []byte) error {
		if at++; !want(at) {
			return nil
		}
		if m == nil {
			m = &fdinfo.FileEntry{}
			if err := proto.Unmarshal(b, m); err != nil {
				return err
			}
		}
		return f(m)
	})
}

// outline is what files have in common of a fdinfo.FileEntry.
type outline struct {
	proto.Rest
	typ *fdinfo.FdTypes
	id  *uint32
}

// Fields of a fdinfo.FileEntry, both of them varints.
const (
	typeTag = 1 << 3
	idTag   = 2 << 3
)

// Reset implements proto.Message.
func (o *outline) Reset() { *o = outline{} }

// ProtoName implements proto.Message.
func (*outline) ProtoName() string { return (*fdinfo.FileEntry)(nil).ProtoName() }

// AppendFields implements proto.Message: it is only read.
func (*outline) AppendFields(b []byte) []byte { return b }

// Missing implements proto.Message.
func (*outline) Missing() string { return "" }

// ReadField implements proto.Message: what else there is isn't asked for.
func (o *outline) ReadField(d *proto.Decoder) bool {
	switch d.Tag {
	case typeTag:
		proto.Number(d, &o.typ)
	case idTag:
		d.Uint32(&o.id)
	}
	return true
}

// rehearseWritten is rehearse for images that did not fit into memory.
func (d *dump) rehearseWritten(ctx context.Context) error {
	src := restore.Images(d.store)
	return d.rehearseWith(ctx, src, &entries{each: func(f func(*fdinfo.FileEntry, []byte) error) error {
		return src.(plan.Raw).Raw(image.Files, func(b []byte) error { return f(nil, b) })
	}})
}

func (d *dump) rehearseWith(ctx context.Context, src plan.Source, files restore.Entries) error {
	if len(d.opts.External) > 0 {
		return nil // what is handed in then isn't known
	}
	err := restore.Rehearse(src, files, d.opts.Both, func() error { return context.Cause(ctx) })
	if late := context.Cause(ctx); late != nil {
		return fmt.Errorf("dump stopped: %w", late)
	}
	if err != nil {
		return fmt.Errorf("a restore could not make the tree again from these images, which is a mistake of Glis's, please report it: %w", err)
	}
	return nil
}
