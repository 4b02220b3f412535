package dump

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"glis.dev/glis/image"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/par"
)

// sink keeps image entries until the tree runs again, so that nothing is
// encoded or written in frozen time, unless they grow too much. Then they are
// encoded, which takes a tenth of the time that files take, and only if that
// isn't enough they are written.
type sink struct {
	store  image.Store
	ended  func() error // why the dump must not go on, if so
	queues map[string]*queue
	order  []*queue
	held   int  // bytes of payload and of encoded entries in memory
	loose  int  // bytes that entries take that aren't encoded, about
	most   int  // how much of held there is to be
	gone   bool // images were written and forgotten

	singles [][]single // see putSingle
	room    []byte     // for what is encoded of them
}

type queue struct {
	name    string
	row     *image.Row
	ids     []uint32
	entries []entry
	last    *run          // of them; nil: there is none
	w       *image.Writer // once something was written
	full    bool          // it gets no more entries
	done    bool          // and closed
}

type entry struct {
	m       proto.Message
	payload []byte
	run     *run // in place of both: many that are encoded
}

// most is how much is kept in memory, in bytes, before it is written, mostLoose
// how much of entries before they are encoded, and coreBytes what a thread's
// entry takes there: the largest of those that there are many of.
const (
	most      = 12 << 20
	mostLoose = most / 2
	coreBytes = 8 << 10
)

// expect says how many open files there are: of very many enough else is known.
func (s *sink) expect(files int) {
	if files >= manyFiles {
		s.most = most / 2
	}
}

func newSink(s image.Store) *sink {
	return &sink{store: s, most: most, queues: map[string]*queue{}, ended: func() error { return nil }}
}

// Put implements kind.Sink.
func (s *sink) Put(row *image.Row, m proto.Message, payload []byte, ids ...uint32) error {
	q := s.queue(row, ids)
	if q.done {
		return fmt.Errorf("%s: it has its one entry already", row.FileName(ids...))
	}
	q.entries = append(q.entries, entry{m: m, payload: payload})
	s.held += len(payload)
	if row == image.Core {
		s.loose += coreBytes
	}
	return s.shrink()
}

// shrink keeps what is in memory below most.
func (s *sink) shrink() error {
	if s.loose > mostLoose {
		if err := s.pack(); err != nil {
			return err
		}
	}
	if s.held > s.most {
		return s.spill()
	}
	return nil
}

// each calls f for all queues, on all CPUs, unless the dump has to end.
func (s *sink) each(f func(*queue) error) error {
	return par.Do(len(s.order), func(i int) error {
		if err := s.ended(); err != nil {
			return err
		}
		return f(s.order[i])
	})
}

// Touch makes sure that an image file is there, if with no entry.
func (s *sink) Touch(row *image.Row, ids ...uint32) { s.queue(row, ids) }

func (s *sink) queue(row *image.Row, ids []uint32) *queue {
	name := row.FileName(ids...)
	q := s.queues[name]
	if q == nil {
		q = &queue{name: name, row: row, ids: ids}
		s.queues[name] = q
		s.order = append(s.order, q)
	}
	return q
}

// Spill implements kind.Spiller.
func (s *sink) Spill() error { return s.spill() }

// spill writes what is held. A file that can have one entry only is closed.
func (s *sink) spill() error {
	s.held, s.loose = 0, 0
	if err := s.writeSingles(s.ended); err != nil {
		return err
	}
	err := s.each(func(q *queue) error {
		if len(q.entries) == 0 && (!q.full || q.w == nil) {
			return nil
		}
		err := q.flush(s.store)
		if q.row.Single || q.full {
			err = errors.Join(err, q.close())
		}
		return err
	})
	s.order = slices.DeleteFunc(s.order, func(q *queue) bool {
		if !q.full || !q.done {
			return false
		}
		delete(s.queues, q.name)
		s.gone = true
		return true
	})
	return err
}

// Complete implements kind.Completer.
func (s *sink) Complete(row *image.Row, ids ...uint32) error {
	s.queue(row, ids).full = true
	s.held += queueBytes
	return s.shrink()
}

// queueBytes is about what a queue takes with a few entries.
const queueBytes = 1 << 10

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
	q.entries, q.last = nil, nil
	return nil
}

func (q *queue) put(e entry) error {
	switch {
	case e.run != nil:
		return q.putRun(e.run)
	case e.payload != nil:
		return q.w.PutPayload(e.m, e.payload)
	}
	return q.w.Put(e.m)
}

// finish writes everything and closes all files.
func (s *sink) finish(ctx context.Context) error {
	if err := s.writeSingles(func() error { return context.Cause(ctx) }); err != nil {
		return err
	}
	return par.Do(len(s.order), func(i int) error {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		q := s.order[i]
		if q.done {
			return nil
		}
		err := q.flush(s.store)
		return errors.Join(err, q.close())
	})
}

// close closes all files; for a dump that failed.
func (s *sink) close() error {
	var errs []error
	for _, q := range s.order {
		errs = append(errs, q.close())
	}
	return errors.Join(errs...)
}

func (q *queue) close() error {
	if q.w == nil {
		return nil
	}
	err := q.w.Close()
	q.w, q.done = nil, true
	return err
}
