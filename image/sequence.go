package image

import (
	"fmt"

	"glis.dev/glis/image/proto"
)

// sequence knows which message comes next in a file of its row. Reader and
// Writer both go by it, so neither takes one sort of entry for another.
type sequence struct {
	row   *Row
	count int                  // entries so far
	subs  uint64               // entries made by row.Sub still to come
	ended bool                 // the rest of the file was payload
	fresh func() proto.Message // row.many's, once asked, or another's

	// names are those of the messages that head, sub and new make, once asked.
	names [3]string
}

// Which of a row's makers makes the next entry.
const (
	byNew = iota
	byHead
	bySub
)

func (s *sequence) maker() int {
	switch {
	case s.count == 0 && s.row.Head != nil:
		return byHead
	case s.subs > 0:
		return bySub
	}
	return byNew
}

// next makes an empty message for the next entry.
func (s *sequence) next() proto.Message {
	switch s.maker() {
	case byHead:
		return s.row.Head()
	case bySub:
		return s.row.Sub()
	}
	if s.fresh == nil && s.row.many == nil {
		return s.row.New()
	}
	if s.fresh == nil {
		s.fresh = s.row.many()
	}
	return s.fresh()
}

// nextName is the name of the next entry's message.
func (s *sequence) nextName() string {
	by := s.maker()
	if s.names[by] == "" {
		s.names[by] = s.next().ProtoName()
	}
	return s.names[by]
}

// check refuses a message of another type than the next entry's.
func (s *sequence) check(m proto.Message) error {
	if s.ended || s.row.Single && s.count > 0 {
		return fmt.Errorf("entry %d in a file that has only %d", s.count+1, s.count)
	}
	want, got := s.nextName(), m.ProtoName()
	if want != got {
		return fmt.Errorf("entry %d is a %s, not a %s", s.count+1, want, got)
	}
	return nil
}

// took notes that m was the entry, and returns the length of its payload.
func (s *sequence) took(m proto.Message) int64 {
	switch {
	case s.subs > 0:
		s.subs--
	case s.row.Subs != nil:
		s.subs = s.row.Subs(m)
	}
	s.count++
	if s.row.Payload == nil {
		return 0
	}
	n := s.row.payload(m)
	s.ended = n == RestOfFile
	return n
}

// payload is Payload, also of a message that was encoded beforehand.
func (r *Row) payload(m proto.Message) int64 {
	if e, ok := m.(*proto.Encoded); ok {
		return e.Payload()
	}
	return r.Payload(m)
}

// complete tells whether the file may end here.
func (s *sequence) complete() error {
	switch {
	case s.subs > 0:
		return fmt.Errorf("%d more entries of %s should follow", s.subs, s.nextName())
	case s.count == 0 && (s.row.Single || s.row.Head != nil):
		return fmt.Errorf("there is no entry, a %s must come first", s.nextName())
	}
	return nil
}

// padding is the number of zeros behind n bytes of payload; n >= 0.
func (r *Row) padding(n int64) int64 {
	if r.Align == 0 || n%r.Align == 0 {
		return 0
	}
	return r.Align - n%r.Align
}
