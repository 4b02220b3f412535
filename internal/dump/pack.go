package dump

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"glis.dev/glis/image"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/par"
)

// run is entries of one image, one after the other, that are encoded: each with its
// length before it.
type run struct {
	name string // of their message
	b    []byte
}

// runSize is how much memory is got at a time for entries that are encoded.
const runSize = 64 << 10

// single is the one entry of an image that there are many of, encoded.
type single struct {
	row     *image.Row
	name    string // of its message
	id      uint32
	b       []byte
	payload []byte
	all     bool // b is all entries of the image, each with its length before it
}

// PutNow implements kind.Packer.
func (s *sink) PutNow(row *image.Row, m proto.Message, payload []byte, ids ...uint32) error {
	if row.Single && len(ids) == 1 {
		return s.putSingle(row, m, payload, ids[0])
	}
	if payload != nil {
		e, err := proto.Encode(m)
		if err != nil {
			return fmt.Errorf("%s: %w", row.FileName(ids...), err)
		}
		return s.Put(row, e, payload, ids...)
	}
	q := s.queue(row, ids)
	if q.done {
		return fmt.Errorf("%s: it has its one entry already", row.FileName(ids...))
	}
	n, err := q.packOne(m)
	if err != nil {
		return fmt.Errorf("%s: %w", row.FileName(ids...), err)
	}
	s.held += n
	return s.shrink()
}

// packOne encodes an entry behind those that were put before.
func (q *queue) packOne(m proto.Message) (int, error) {
	if n := len(q.entries); n == 0 || q.entries[n-1].run == nil || q.last.room() < runSize/8 {
		q.last = q.last.next(m.ProtoName())
		q.entries = append(q.entries, entry{run: q.last})
	}
	r := q.last
	b, err := appendEntry(r.b, m)
	if err != nil {
		return 0, err
	}
	n := len(b) - len(r.b)
	r.b = b
	return n, nil
}

// room is how many bytes there are behind a run; of nil there is none.
func (r *run) room() int {
	if r == nil {
		return 0
	}
	return cap(r.b) - len(r.b)
}

// next returns a run that is behind another one in memory, if there is room: entries that
// are encoded may come in turn with others that aren't.
func (r *run) next(name string) *run {
	if r.room() < runSize/8 {
		return &run{name, make([]byte, 0, runSize)}
	}
	behind := r.b[len(r.b):]
	r.b = slices.Clip(r.b)
	return &run{name, behind}
}

// appendEntry appends an entry with its length before it.
func appendEntry(b []byte, m proto.Message) ([]byte, error) {
	from := len(b)
	b, err := proto.MarshalOptions{}.MarshalAppend(append(b, 0, 0, 0, 0), m)
	if err == nil {
		binary.LittleEndian.PutUint32(b[from:], uint32(len(b)-from-4))
	}
	return b, err
}

// putRun writes entries that are encoded.
func (q *queue) putRun(r *run) error {
	return r.each(func(b []byte) error { return q.w.Put(proto.EncodedAs(r.name, b, 0)) })
}

// each calls f for each entry.
func (r *run) each(f func(entry []byte) error) error {
	for b := r.b; len(b) > 0; {
		end := 4 + binary.LittleEndian.Uint32(b)
		if err := f(b[4:end]); err != nil {
			return err
		}
		b = b[end:]
	}
	return nil
}

func (s *sink) putSingle(row *image.Row, m proto.Message, payload []byte, id uint32) error {
	if want := row.Payload; want != nil && want(m) != int64(len(payload)) {
		return fmt.Errorf("%s: a payload of %d bytes, and there should be %d", row.FileName(id), len(payload), want(m))
	}
	b, err := s.inRoom(func(b []byte) ([]byte, error) { return proto.MarshalOptions{}.MarshalAppend(b, m) })
	if err != nil {
		return fmt.Errorf("%s: %w", row.FileName(id), err)
	}
	s.keep(single{row, m.ProtoName(), id, b, payload, false})
	return s.shrink()
}

// putAll hands in all entries of an image that there are many of.
func (s *sink) putAll(row *image.Row, all []proto.Message, id uint32) error {
	name := ""
	b, err := s.inRoom(func(b []byte) (_ []byte, err error) {
		for i := 0; i < len(all) && err == nil; i++ {
			name = all[i].ProtoName()
			b, err = appendEntry(b, all[i])
		}
		return b, err
	})
	if err != nil {
		return fmt.Errorf("%s: %w", row.FileName(id), err)
	}
	s.keep(single{row, name, id, b, nil, true})
	return s.shrink()
}

// inRoom returns what f appends to what it is given.
func (s *sink) inRoom(f func([]byte) ([]byte, error)) ([]byte, error) {
	if cap(s.room)-len(s.room) < runSize/8 {
		s.room = make([]byte, 0, runSize)
	}
	from := len(s.room)
	b, err := f(s.room)
	if err != nil {
		return nil, err
	}
	if cap(b) != cap(s.room) { // it did not fit
		return bytes.Clone(b[from:]), nil
	}
	s.room = b
	return b[from:len(b):len(b)], nil
}

// amend changes a single entry that was put, which m is for. There are few such.
func (s *sink) amend(row *image.Row, id uint32, m proto.Message, change func()) error {
	for i := range s.countSingles() {
		x := s.nth(i)
		if x.row != row || x.id != id {
			continue
		}
		if err := proto.Unmarshal(x.b, m); err != nil {
			return err
		}
		change()
		b, err := proto.Marshal(m)
		x.b = b
		return err
	}
	name := row.FileName(id)
	rd, err := image.Open(s.store, row, id)
	if err != nil {
		return err
	}
	err = rd.Next(m)
	rd.Close()
	if err == nil {
		change()
		err = s.store.Remove(name)
	}
	if err != nil {
		return err
	}
	return s.putSingle(row, m, nil, id)
}

// keep adds a single.
func (s *sink) keep(x single) {
	if n := len(s.singles); n == 0 || len(s.singles[n-1]) == cap(s.singles[n-1]) {
		s.singles = append(s.singles, make([]single, 0, singlesAtOnce))
	}
	last := &s.singles[len(s.singles)-1]
	*last = append(*last, x)
	s.held += len(x.b) + len(x.payload)
}

// pack encodes the entries of threads, which are singles then: a queue for each
// would be as large as what is in it.
func (s *sink) pack() error {
	s.loose = 0
	var cores []*queue
	s.order = slices.DeleteFunc(s.order, func(q *queue) bool {
		core := q.row == image.Core && q.w == nil && len(q.entries) == 1
		if core {
			cores = append(cores, q)
			delete(s.queues, q.name)
		}
		return core
	})
	pieces := slices.Collect(slices.Chunk(cores, coresAtOnce))
	packed := make([][]single, len(pieces))
	err := par.Do(len(pieces), func(i int) (err error) {
		if err := s.ended(); err != nil {
			return err
		}
		packed[i], err = packCores(pieces[i])
		return err
	})
	for _, p := range packed {
		for _, x := range p {
			s.keep(x)
		}
	}
	return err
}

// coresAtOnce is for how many threads' entries there is memory in one piece.
const coresAtOnce = 32

// packCores encodes entries that are about as long as the first of them.
func packCores(cores []*queue) ([]single, error) {
	out := make([]single, 0, len(cores))
	var b []byte
	for _, q := range cores {
		from := len(b)
		var err error
		if b, err = (proto.MarshalOptions{}).MarshalAppend(b, q.entries[0].m); err != nil {
			return nil, fmt.Errorf("%s: %w", q.name, err)
		}
		if from == 0 {
			b = append(make([]byte, 0, len(cores)*(len(b)+16)), b...)
		}
		out = append(out, single{q.row, q.entries[0].m.ProtoName(), q.ids[0], b[from:len(b):len(b)], nil, false})
	}
	return out, nil
}

// singlesAtOnce is for how many singles there is memory in one piece.
const singlesAtOnce = 256

func (x *single) write(store image.Store) error {
	w, err := image.Create(store, x.row, x.id)
	if err != nil {
		return err
	}
	put := func(b []byte) error { return w.Put(proto.EncodedAs(x.name, b, 0)) }
	if x.all {
		err = (&run{x.name, x.b}).each(put)
	} else {
		err = w.PutPayload(proto.EncodedAs(x.name, x.b, int64(len(x.payload))), x.payload)
	}
	if err != nil {
		_ = w.Close() // it returns the same error
		return err
	}
	return w.Close()
}

// nth returns the i-th single.
func (s *sink) nth(i int) *single { return &s.singles[i/singlesAtOnce][i%singlesAtOnce] }

// countSingles returns how many there are.
func (s *sink) countSingles() int {
	if len(s.singles) == 0 {
		return 0
	}
	return (len(s.singles)-1)*singlesAtOnce + len(s.singles[len(s.singles)-1])
}

// writeSingles writes all singles, on all CPUs, unless ended says why not.
func (s *sink) writeSingles(ended func() error) error {
	err := par.Do(s.countSingles(), func(i int) error {
		if err := ended(); err != nil {
			return err
		}
		return s.nth(i).write(s.store)
	})
	s.singles, s.room = nil, nil
	return err
}
