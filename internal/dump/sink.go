package dump

import (
	"errors"

	"google.golang.org/protobuf/proto"

	"glis.dev/glis/image"
	"glis.dev/glis/internal/par"
)

// sink keeps image entries until the tree runs again, so that nothing is
// encoded or written in frozen time, unless they grow too much.
type sink struct {
	store  image.Store
	queues map[string]*queue
	order  []*queue
	held   int // bytes of payload in memory
}

type queue struct {
	row     *image.Row
	ids     []uint32
	entries []entry
	w       *image.Writer // once something was written
}

type entry struct {
	m       proto.Message
	payload []byte
}

// most is how much payload is kept in memory before it is written.
const most = 8 << 20

func newSink(s image.Store) *sink { return &sink{store: s, queues: map[string]*queue{}} }

// Put implements kind.Sink.
func (s *sink) Put(row *image.Row, m proto.Message, payload []byte, ids ...uint32) error {
	q := s.queue(row, ids)
	q.entries = append(q.entries, entry{m, payload})
	if s.held += len(payload); s.held > most {
		return s.flush()
	}
	return nil
}

// Touch makes sure that an image file is there, if with no entry.
func (s *sink) Touch(row *image.Row, ids ...uint32) { s.queue(row, ids) }

func (s *sink) queue(row *image.Row, ids []uint32) *queue {
	name := row.FileName(ids...)
	q := s.queues[name]
	if q == nil {
		q = &queue{row: row, ids: ids}
		s.queues[name] = q
		s.order = append(s.order, q)
	}
	return q
}

// flush writes what is held.
func (s *sink) flush() error {
	s.held = 0
	return par.Do(len(s.order), func(i int) error { return s.order[i].flush(s.store) })
}

func (q *queue) flush(store image.Store) error {
	if q.w == nil {
		var err error
		if q.w, err = image.Create(store, q.row, q.ids...); err != nil {
			return err
		}
	}
	for _, e := range q.entries {
		if err := q.put(e); err != nil {
			return err
		}
	}
	q.entries = q.entries[:0]
	return nil
}

func (q *queue) put(e entry) error {
	if e.payload != nil {
		return q.w.PutPayload(e.m, e.payload)
	}
	return q.w.Put(e.m)
}

// finish writes everything and closes all files.
func (s *sink) finish() error {
	err := s.flush()
	return errors.Join(err, s.close())
}

// close closes all files; for a dump that failed.
func (s *sink) close() error {
	var errs []error
	for _, q := range s.order {
		if q.w != nil {
			errs = append(errs, q.w.Close())
			q.w = nil
		}
	}
	return errors.Join(errs...)
}
